import pytest
import torch
from planted_world import small_recipe

from neuraldiffuser.config.decoder import Budget, Objective
from neuraldiffuser.decoders.data import read_trials
from neuraldiffuser.decoders.fitting import make_losses, new_decoder
from neuraldiffuser.decoders.objectives import (
    low_level_losses,
    phase_of,
    steps_per_epoch,
    total_steps,
)
from neuraldiffuser.decoders.parallel import Share

RELEASED = Budget()


def test_released_budget():
    assert steps_per_epoch(RELEASED) == 30000 // 42
    assert total_steps(RELEASED) == 150 * 714


def test_phases_are_49_epochs_of_mixco_and_101_of_soft_clip():
    phases = [phase_of(714 * epoch, RELEASED, Objective()) for epoch in range(150)]
    assert [phase.mixco for phase in phases] == [True] * 49 + [False] * 101
    assert {phase.temperature for phase in phases[:49]} == {0.006}
    assert phases[49].temperature == pytest.approx(0.004)
    assert phases[99].temperature == pytest.approx(0.00575)
    assert phases[149].temperature == pytest.approx(0.0075)
    assert phase_of(714 * 49 - 1, RELEASED, Objective()).mixco


@pytest.fixture(scope="module")
def trials(world):
    paths = [world / f"voxels/{subject}.h5" for subject in ("subj02", "subj03")]
    return read_trials(paths, world / "targets/clip_text.h5")


def losses_of(trials, step, **changes):
    recipe = small_recipe(**changes)
    decoder = new_decoder("clip_text", trials, recipe)
    losses = make_losses(decoder, trials)
    generator = torch.Generator().manual_seed(0)
    batch = trials.batch(step, size=16, seed=0)
    decoder.model.eval()
    return {name: value.item() for name, value in losses(batch, step, generator).items()}


def test_equation_3_is_the_weighted_sum(trials):
    objective = Objective(prior_weight=7, contrastive_weight=3)
    losses = losses_of(trials, 0, objective=objective)
    assert losses["loss"] == pytest.approx(7 * losses["prior"] + 3 * losses["contrastive"])


MIXCO_STEP, SOFT_STEP = 0, 29


@pytest.mark.parametrize(
    ("step", "changes"),
    [
        (MIXCO_STEP, {"mixco_permutation": "per_subject_unoffset"}),
        (MIXCO_STEP, {"objective": Objective(mixco_beta=2)}),
        (MIXCO_STEP, {"objective": Objective(mixco_probability=0)}),
        (MIXCO_STEP, {"objective": Objective(mixco_temperature=0.1)}),
        (MIXCO_STEP, {"objective": Objective(mixco_fraction=0)}),
        (SOFT_STEP, {"objective": Objective(soft_temperatures=(0.1, 0.2))}),
        (SOFT_STEP, {"target_scaling": "none"}),
    ],
)
def test_every_setting_changes_the_loss(trials, step, changes):
    assert losses_of(trials, step, **changes)["loss"] != losses_of(trials, step)["loss"]


def test_condition_dropout_changes_the_priors_loss(trials):
    without = small_recipe().prior.model_copy(update={"condition_dropout": 0.0})
    assert losses_of(trials, 0, prior=without)["prior"] != losses_of(trials, 0)["prior"]


def unit_rows(count, width, seed):
    rows = torch.randn(count, width, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(rows, dim=1)


def taught_losses(world, **changes):
    trials = read_trials([world / "voxels/subj02.h5"], world / "targets/vae_latent.h5")
    low_level = small_recipe().low_level.model_copy(update={"teacher": "autoencoder"} | changes)
    recipe = small_recipe(low_level=low_level)
    decoder = new_decoder("vae_latent", trials, recipe)
    decoder.model.eval()
    batch = trials.batch(0, size=8, seed=0)
    seen = []

    def teacher(ids, generator, share):
        seen.append((ids, generator, share))
        clean, augmented = (unit_rows(len(ids) * 16, 8, seed) for seed in (1, 2))  # maps of 4 x 4
        return clean.unflatten(0, (-1, 16)), augmented.unflatten(0, (-1, 16))

    generator = torch.Generator().manual_seed(0)
    losses = low_level_losses(decoder.model, recipe, teacher)(batch, 0, generator)
    assert seen == [(batch.ids, generator, Share())]
    return {name: value.item() for name, value in losses.items()}


def test_equation_4_is_the_weighted_sum(world):
    losses = taught_losses(world, teacher_weight=0.4)
    assert losses["loss"] == pytest.approx(losses["l1"] + 0.4 * losses["contrastive"])


@pytest.mark.parametrize(
    ("part", "changes"),
    [("contrastive", {"teacher_temperature": 0.5}), ("l1", {"l1_divisor": 1.0})],
)
def test_every_low_level_setting_changes_its_loss(world, part, changes):
    assert taught_losses(world, **changes)[part] != taught_losses(world)[part]
