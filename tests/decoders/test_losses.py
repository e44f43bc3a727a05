"""Every loss against a plain float64 loop over its formula, gradients included."""

import math

import numpy as np
import pytest
import torch

from neuraldiffuser.decoders.losses import (
    PERMUTATIONS,
    Mixture,
    draw_mixture,
    latent_l1_loss,
    mix_voxels,
    mixco_loss,
    soft_clip_loss,
    soft_contrastive_loss,
    soft_temperature,
    unit_vectors,
)

TAU = 0.1
MIXTURE = Mixture(
    partner=torch.tensor([[1, 2, 0], [2, 1, 0]]),
    kept=torch.tensor([[0.7, 1.0, 0.2], [0.9, 1.0, 0.4]]),
)


@pytest.fixture
def vectors():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(3, 6, 5, generator=generator, dtype=torch.float64)
    return [torch.nn.functional.normalize(each, dim=1).requires_grad_() for each in rows]


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def log_softmax_entry(logits, column):
    return logits[column] - torch.log(sum(torch.exp(value) for value in logits))


def same_value_and_gradient(loss, expected, inputs):
    torch.testing.assert_close(loss, expected)
    gradients = torch.autograd.grad(loss, inputs, retain_graph=True)
    for ours, theirs in zip(gradients, torch.autograd.grad(expected, inputs), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_mixco_is_half_of_equation_1(vectors):
    """Equation 1 with lambda_i kept, j the partner of i; P over columns, C over rows."""
    p, c, _ = vectors
    partner = [1, 2, 0, 5, 4, 3]
    kept = MIXTURE.kept.flatten().double()
    total = 0
    for i, j in enumerate(partner):
        row = [dot(p[i], c[m]) / TAU for m in range(6)]
        total = total + kept[i] * log_softmax_entry(row, i)
        total = total + (1 - kept[i]) * log_softmax_entry(row, j)
    for j in range(6):
        column = [dot(p[m], c[j]) / TAU for m in range(6)]
        total = total + kept[j] * log_softmax_entry(column, j)
        for i in range(6):  # every row whose partner is j
            if partner[i] == j:
                total = total + (1 - kept[i]) * log_softmax_entry(column, i)
    weights = PERMUTATIONS["global"](MIXTURE).double()
    same_value_and_gradient(mixco_loss(p, c, weights, TAU), -total / 6 / 2, [p, c])


def test_soft_clip_is_the_mean_of_equation_2_and_its_other_direction(vectors):
    p, c, _ = vectors
    total = 0
    for i in range(6):
        soft = [dot(c[i], c[m]) / TAU for m in range(6)]
        row = [dot(p[i], c[m]) / TAU for m in range(6)]
        column = [dot(p[m], c[i]) / TAU for m in range(6)]
        for j in range(6):
            probability = torch.exp(log_softmax_entry(soft, j))
            total = total - probability * log_softmax_entry(row, j)
            total = total - probability * log_softmax_entry(column, j)
    same_value_and_gradient(soft_clip_loss(p, c, TAU), total / 6 / 2, [p, c])


def test_soft_contrast_of_maps_equals_a_plain_loop(vectors):
    student, teacher, augmented = vectors
    total = 0
    for i in range(6):
        reference = [dot(teacher[i], augmented[m]) / TAU for m in range(6)]
        row = [dot(student[i], augmented[m]) / TAU for m in range(6)]
        back_reference = [dot(teacher[m], augmented[i]) / TAU for m in range(6)]
        column = [dot(student[m], augmented[i]) / TAU for m in range(6)]
        for j in range(6):
            total = total - torch.exp(log_softmax_entry(reference, j)) * log_softmax_entry(row, j)
            total = total - torch.exp(log_softmax_entry(back_reference, j)) * log_softmax_entry(
                column, j
            )
    loss = soft_contrastive_loss(student, teacher, augmented, TAU)
    same_value_and_gradient(loss, total / 6 / 2, [student])


def test_latent_l1_is_a_mean_over_a_divisor():
    predicted, target = torch.randn(2, 3, 4, 2, 2, dtype=torch.float64)
    total = sum(
        abs(float(a - b)) for a, b in zip(predicted.flatten(), target.flatten(), strict=True)
    )
    assert float(latent_l1_loss(predicted, target, 0.18215)) == pytest.approx(total / 48 / 0.18215)


def test_losses_prefer_right_predictions():
    c = torch.nn.functional.normalize(torch.randn(6, 5, dtype=torch.float64), dim=1)
    weights = PERMUTATIONS["global"](MIXTURE).double()
    assert mixco_loss(c, c, weights, TAU) < mixco_loss(c.flip(0), c, weights, TAU)
    assert soft_clip_loss(c, c, TAU) < soft_clip_loss(c.flip(0), c, TAU)


def test_global_weights_lie_in_the_subjects_own_columns_and_sum_to_one():
    weights = PERMUTATIONS["global"](MIXTURE)
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(6))
    assert float(weights[3, 5]) == pytest.approx(0.1)
    assert weights[3:, :3].abs().sum() == 0


def test_unoffset_weights_fall_on_the_first_subject_and_lose_their_own_partners():
    weights = PERMUTATIONS["per_subject_unoffset"](MIXTURE)
    assert float(weights[3, 2]) == pytest.approx(
        0.1
    )  # partner 2 of subject 2: first subject's column
    assert weights[3:, 3:].diagonal().tolist() == pytest.approx([0.9, 1.0, 0.4])
    alone = Mixture(partner=torch.tensor([[0, 1]]), kept=torch.ones(1, 2))
    assert PERMUTATIONS["per_subject_unoffset"](alone).abs().sum() == 0
    torch.testing.assert_close(PERMUTATIONS["global"](alone), torch.eye(2))


def test_readings_agree_for_one_subject_without_own_partners():
    alone = Mixture(MIXTURE.partner[:1], MIXTURE.kept[:1])
    torch.testing.assert_close(*[weights(alone) for weights in PERMUTATIONS.values()])


def test_voxels_are_mixed_within_a_subject():
    voxels = {"subj02": torch.randn(3, 4), "subj01": torch.randn(3, 2)}
    mixed = mix_voxels(voxels, MIXTURE)
    for number, subject in enumerate(voxels):
        for row in range(3):
            kept = MIXTURE.kept[number, row]
            partner = voxels[subject][MIXTURE.partner[number, row]]
            expected = kept * voxels[subject][row] + (1 - kept) * partner
            torch.testing.assert_close(mixed[subject][row], expected)


def test_drawn_mixtures_have_the_asked_shape_and_distribution():
    drawn = draw_mixture(np.random.default_rng(0), shape=(2, 4000), beta=0.15, probability=0.5)
    for partner in drawn.partner:
        assert sorted(partner.tolist()) == list(range(4000))
    assert not torch.equal(*drawn.partner)
    mixed = drawn.kept[drawn.kept < 1]
    assert len(mixed) / 8000 == pytest.approx(0.5, abs=0.05)
    # Beta(b, b) has mean 1/2 and variance 1 / (4 (2 b + 1)).
    assert float(mixed.mean()) == pytest.approx(0.5, abs=0.03)
    assert float(mixed.var()) == pytest.approx(1 / (4 * 1.3), abs=0.02)


def test_unit_vectors_flatten_everything_but_samples():
    x = torch.randn(3, 4, 5)
    expected = torch.stack([row.flatten() / math.sqrt((row**2).sum()) for row in x])
    torch.testing.assert_close(unit_vectors(x), expected)


def test_temperature_is_half_a_cosine():
    assert soft_temperature(0, 0.004, 0.0075) == pytest.approx(0.004)
    assert soft_temperature(0.5, 0.004, 0.0075) == pytest.approx(0.00575)
    assert soft_temperature(1, 0.004, 0.0075) == pytest.approx(0.0075)


def test_half_precision_around_a_loss_does_not_reach_it():
    p, c = (torch.nn.functional.normalize(torch.rand(6, 50) + 1, dim=1) for _ in range(2))
    losses = {
        "mixco": lambda: mixco_loss(p, c, PERMUTATIONS["global"](MIXTURE), 0.006),
        "soft": lambda: soft_clip_loss(p, c, 0.006),
        "maps": lambda: soft_contrastive_loss(p, c, c.flip(0), 0.006),
    }
    for loss in losses.values():
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mixed = loss()
        assert torch.equal(mixed, loss())
