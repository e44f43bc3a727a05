"""Qualities of sets against their closed forms."""

import numpy as np
import pytest
import scipy.linalg
import torch

from neuraldiffuser.errors import DataError
from neuraldiffuser.evaluation.quality import (
    describe_frechet_bias,
    describe_inception_bias,
    frechet_distance,
    inception_score,
    kernel_distance,
)


@pytest.fixture
def features():
    return torch.randn(2, 60, 5, generator=torch.manual_seed(0), dtype=torch.float64)


def frechet_by_definition(first, second):
    means = first.mean(axis=0) - second.mean(axis=0)
    a, b = np.cov(first.T), np.cov(second.T)
    return means @ means + np.trace(a + b - 2 * scipy.linalg.sqrtm(a @ b).real)


def test_frechet_distance_is_its_definition(features):
    first, second = features[0], 2 * features[1] + 1
    expected = frechet_by_definition(first.numpy(), second.numpy())
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-6)


def test_frechet_distance_is_zero_for_one_set_and_grows_with_the_shift(features):
    found = [frechet_distance(features[0], features[0] + shift) for shift in (0.0, 0.5, 2.0)]
    assert found[0] == pytest.approx(0, abs=1e-6)
    assert found[0] < found[1] < found[2]


def test_the_note_tells_the_bias_of_the_frechet_distance_in_numbers():
    """Halves of one distribution are apart by the bias alone, which shrinks with their number."""
    draws = torch.randn(400, 8, generator=torch.manual_seed(3), dtype=torch.float64)
    told = {}
    for number in (40, 400):
        note = describe_frechet_bias(draws[:number])
        start = f"biased upwards by the finite sample of {number} images: two random halves of the "
        assert note.startswith(start)
        told[number] = float(note.split("stimuli are ")[1].split(" apart")[0])
    assert told[40] > 5 * told[400] > 0
    assert "rank" not in describe_frechet_bias(draws)
    with pytest.raises(DataError, match="needs 4 images, but there are only 3"):
        describe_frechet_bias(draws[:3])
    few = describe_frechet_bias(draws[:8])
    assert few.endswith("apart; rank at most 7 of 8; mean over repeats")


def test_the_note_tells_the_score_of_the_stimuli():
    logits = 100 * torch.eye(3, dtype=torch.float64).repeat(1000, 1)
    assert describe_inception_bias(logits) == (
        "biased downwards by the finite sample of 3000 images in 10 splits: the stimuli themselves "
        "reach 2.99; mean over repeats"
    )


def test_inception_score_is_the_number_of_equally_frequent_certain_classes():
    # Every split of the shuffled images needs every class, hence many images of few classes.
    logits = 100 * torch.eye(3, dtype=torch.float64).repeat(1000, 1)
    assert inception_score(logits, logits) == pytest.approx(3, abs=0.03)
    assert inception_score(logits, torch.zeros(100, 3)) == pytest.approx(1)


def test_inception_score_is_repeatable_and_leaves_the_global_generator_alone(features):
    state = torch.get_rng_state()
    scores = {inception_score(features[0], features[1]) for _ in range(3)}
    assert len(scores) == 1
    assert torch.equal(torch.get_rng_state(), state)


def test_too_few_images_for_the_splits_are_refused(features):
    with pytest.raises(DataError, match="divides the images into 10 parts, but there are only 9"):
        inception_score(features[0], features[1][:9])


def kernel(a, b):
    return (sum(x * y for x, y in zip(a, b, strict=True)) / len(a) + 1) ** 3


def mmd_by_definition(first, second):
    """The mean over pairs of different images, pair by pair."""
    number, total = len(first), 0.0
    for i in range(number):
        for j in range(number):
            if i != j:
                total += kernel(first[i], first[j]) + kernel(second[i], second[j])
                total -= kernel(first[i], second[j]) + kernel(first[j], second[i])
    return total / (number * (number - 1))


def test_kernel_distance_is_its_definition(features):
    first, second = features[0, :12], features[1, :12] + 0.5
    expected = mmd_by_definition(first.tolist(), second.tolist())
    assert kernel_distance(first, second).mean().item() == pytest.approx(expected, rel=1e-10)


def test_kernel_distance_is_that_of_torchmetrics_but_for_own_reconstructions(features):
    from torchmetrics.image.kid import poly_mmd

    first, second = features[0], features[1] + 0.5
    number = len(first)
    across = torch.tensor([[kernel(x, y) for y in second.tolist()] for x in first.tolist()])
    own = (across.sum() - across.trace()) / (number * (number - 1))
    change = 2 * (across.mean() - own)
    expected = poly_mmd(first, second) + change
    assert kernel_distance(first, second).mean().item() == pytest.approx(expected.item(), rel=1e-5)


def test_values_of_the_kernel_distance_are_those_of_the_jackknife(features):
    first, second = features[0, :9], features[1, :9] + 0.5
    whole = mmd_by_definition(first.tolist(), second.tolist())
    for left_out, value in enumerate(kernel_distance(first, second).tolist()):
        kept = [i for i in range(9) if i != left_out]
        without = mmd_by_definition(first[kept].tolist(), second[kept].tolist())
        assert value == pytest.approx(9 * whole - 8 * without, rel=1e-9)


def test_kernel_distance_has_no_bias_for_few_images_and_grows_with_the_shift():
    draws = torch.randn(2, 400, 8, 5, generator=torch.manual_seed(1), dtype=torch.float64)
    pairs = list(zip(*draws, strict=True))
    found = {
        shift: np.array([kernel_distance(a, b + shift).mean().item() for a, b in pairs])
        for shift in (0.0, 0.5, 1.0)
    }
    error = found[0.0].std() / np.sqrt(len(pairs))
    assert abs(found[0.0].mean()) < 3 * error
    assert found[0.0].mean() < found[0.5].mean() < found[1.0].mean()


def test_the_interval_of_the_kernel_distance_covers_its_spread_over_samples():
    """Over new images the distance varies as the spread of its values over one sample says."""
    draws = torch.randn(2, 300, 40, 5, generator=torch.manual_seed(2), dtype=torch.float64)
    values = torch.stack([kernel_distance(a, b + 1) for a, b in zip(*draws, strict=True)])
    told = (values.var(dim=1) / 40).mean().sqrt()
    assert told.item() == pytest.approx(values.mean(dim=1).std().item(), rel=0.15)


def test_two_images_have_no_kernel_distance(features):
    with pytest.raises(DataError) as error:
        kernel_distance(features[0, :2], features[1, :2])
    assert str(error.value) == (
        "a kernel distance needs 3 images, but there are only 2; raise minimum_images of this "
        "judge."
    )
