"""Ridge regression against closed forms, plain loops in float64 and planted maps.

Both shapes run everywhere: more voxels than images, and more images than voxels.
"""

import logging

import numpy as np
import pytest
import torch

from neuraldiffuser.config.decoder import RidgeSettings
from neuraldiffuser.decoders import ridge
from neuraldiffuser.decoders.ridge import choose_penalty, fit_ridge, measure_errors
from neuraldiffuser.errors import ConfigError, DataError

SHAPES = {"more voxels": (40, 70), "more images": (90, 15)}
PENALTIES = (0.1, 1.0, 10.0, 100.0, 1000.0)


@pytest.fixture(params=SHAPES.values(), ids=SHAPES.keys())
def problem(request):
    """Voxels of unequal means and deviations, and noisy targets (n, 3, 4) that follow from them."""
    return make_problem(*request.param)


def make_problem(images, voxels, noise=3.0):
    generator = np.random.default_rng(1)
    rows = generator.standard_normal((images, voxels)) * np.linspace(0.1, 4, voxels) + 7
    targets = rows @ generator.standard_normal((voxels, 12)) / 5
    targets += noise * generator.standard_normal(targets.shape) + 20
    return rows.astype(np.float32), targets.reshape(images, 3, 4).astype(np.float32)


def one_penalty(penalty):
    return RidgeSettings(penalties=(penalty,), folds=2)


def standardise(rows, mean, deviation):
    return (rows.astype(float) - mean) / deviation


@pytest.mark.parametrize("penalty", PENALTIES)
def test_predictions_equal_the_normal_equations(problem, penalty):
    voxels, targets = problem
    new = np.random.default_rng(2).normal(7, 2, (9, voxels.shape[1])).astype(np.float32)
    mean, deviation = voxels.mean(0, dtype=float), voxels.std(0, dtype=float)
    rows, outputs = standardise(voxels, mean, deviation), targets.reshape(-1, 12).astype(float)
    weights = np.linalg.solve(
        rows.T @ rows + penalty * np.eye(rows.shape[1]), rows.T @ (outputs - outputs.mean(0))
    )
    expected = standardise(new, mean, deviation) @ weights + outputs.mean(0)
    found = fit_ridge(voxels, targets, one_penalty(penalty), seed=0).predict(new)
    assert found.dtype == np.float32 and found.shape == (9, 3, 4)
    np.testing.assert_allclose(found.reshape(9, 12), expected, rtol=1e-6)


def test_predictions_equal_least_squares_on_augmented_rows(problem):
    """A penalty is as many further rows, one per voxel, whose target is 0."""
    voxels, targets = problem
    rows = standardise(voxels, voxels.mean(0, dtype=float), voxels.std(0, dtype=float))
    outputs = targets.reshape(-1, 12).astype(float)
    augmented = np.vstack([rows, np.sqrt(30) * np.eye(rows.shape[1])])
    zeros = np.zeros((rows.shape[1], 12))
    centred = np.vstack([outputs - outputs.mean(0), zeros])
    weights = np.linalg.lstsq(augmented, centred)[0]
    found = fit_ridge(voxels, targets, one_penalty(30.0), seed=0).predict(voxels)
    expected = rows @ weights + outputs.mean(0)
    np.testing.assert_allclose(found.reshape(-1, 12), expected, rtol=1e-6)


def errors_by_loop(rows, outputs, left_out, penalties):
    """Fits, with an intercept, on the other rows; squared errors on those left out."""
    kept = [row for row in range(len(rows)) if row not in set(left_out.tolist())]
    x, y = rows[kept] - rows[kept].mean(0), outputs[kept] - outputs[kept].mean(0)
    found = []
    for penalty in penalties:
        weights = np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ y)
        guess = (rows[left_out] - rows[kept].mean(0)) @ weights + outputs[kept].mean(0)
        found.append(np.square(guess - outputs[left_out]).sum())
    return np.array(found)


def test_errors_of_a_fold_equal_those_of_a_plain_loop(problem):
    rows, outputs = problem[0].astype(float), problem[1].reshape(-1, 12).astype(float)
    left_out = np.array([3, 0, 17, 30, 21])
    found = measure_errors(
        torch.from_numpy(rows),
        torch.from_numpy(outputs @ outputs.T),
        left_out,
        torch.tensor(PENALTIES, dtype=torch.float64),
    )
    expected = errors_by_loop(rows, outputs, left_out, PENALTIES)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-7)


@pytest.mark.parametrize("folds", [2, 5])
@pytest.mark.parametrize("noise", [0.1, 3.0, 300.0])
def test_the_chosen_penalty_is_that_of_an_exhaustive_loop(noise, folds):
    voxels, targets = make_problem(60, 50, noise)
    rows = standardise(voxels, voxels.mean(0, dtype=float), voxels.std(0, dtype=float))
    outputs = targets.reshape(60, 12).astype(float)
    shuffled = np.random.default_rng([4, 60]).permutation(60)
    errors = sum(
        errors_by_loop(rows, outputs, fold, PENALTIES) for fold in np.array_split(shuffled, folds)
    )
    fitted = fit_ridge(voxels, targets, RidgeSettings(penalties=PENALTIES, folds=folds), seed=4)
    assert fitted.penalty == PENALTIES[errors.argmin()]


def test_more_noise_asks_for_a_larger_penalty():
    settings = RidgeSettings(penalties=PENALTIES)
    chosen = [fit_ridge(*make_problem(60, 50, n), settings, seed=4).penalty for n in (0.1, 3, 300)]
    assert chosen[0] < chosen[1] < chosen[2]


def test_folds_and_their_seed_decide():
    """Where little is to be learnt, the choice depends on who is left out."""
    voxels, targets = make_problem(24, 50, noise=20)
    grid = tuple(float(2**power) for power in range(16))

    def choose(folds, seed):
        settings = RidgeSettings(penalties=grid, folds=folds)
        return fit_ridge(voxels, targets, settings, seed=seed).penalty

    assert len({choose(folds, 0) for folds in (2, 3, 6, 24)}) > 1
    assert len({choose(3, seed) for seed in range(5)}) > 1
    assert choose(3, 1) == choose(3, 1)


def test_a_planted_map_is_recovered_from_images_never_seen():
    generator = np.random.default_rng(0)
    mapping = generator.standard_normal((30, 6))
    voxels = generator.standard_normal((400, 30)).astype(np.float32)
    targets = voxels @ mapping + 0.1 * generator.standard_normal((400, 6)) + 3
    settings = RidgeSettings(penalties=PENALTIES)
    fitted = fit_ridge(voxels[:300], targets[:300], settings, seed=0)
    found = fitted.predict(voxels[300:])
    np.testing.assert_allclose(found, voxels[300:] @ mapping + 3, atol=0.2)


def test_shuffled_targets_are_predicted_by_their_mean():
    voxels, targets = make_problem(90, 15)
    shuffled = targets[np.random.default_rng(3).permutation(90)]
    fitted = fit_ridge(voxels, shuffled, RidgeSettings(), seed=0)
    guess = fitted.predict(voxels)
    assert fitted.penalty >= 1e3
    assert np.square(guess - shuffled.mean(0)).mean() < 0.01 * shuffled.var(axis=0).mean()


def test_blocks_of_outputs_change_nothing(problem, monkeypatch):
    whole = fit_ridge(*problem, RidgeSettings(), seed=0)
    monkeypatch.setattr(ridge, "OUTPUTS_AT_ONCE", 5)
    parts = fit_ridge(*problem, RidgeSettings(), seed=0)
    assert parts.penalty == whole.penalty
    np.testing.assert_allclose(parts.predict(problem[0]), whole.predict(problem[0]), rtol=1e-6)


def test_half_precision_targets_are_computed_in_float64(problem):
    voxels, targets = problem
    halves = targets.astype(np.float16)
    found = fit_ridge(voxels, halves, one_penalty(10.0), seed=0).predict(voxels)
    wide = fit_ridge(voxels, halves.astype(np.float64), one_penalty(10.0), seed=0).predict(voxels)
    np.testing.assert_array_equal(found, wide)


def test_a_voxel_that_never_changes_has_no_say(problem):
    voxels, targets = problem
    constant = np.full((len(voxels), 1), 5, np.float32)
    with_constant = np.hstack([voxels, constant])
    found = fit_ridge(with_constant, targets, one_penalty(10.0), seed=0)
    expected = fit_ridge(voxels, targets, one_penalty(10.0), seed=0).predict(voxels)
    np.testing.assert_allclose(
        found.predict(np.hstack([voxels, constant + 3])), expected, rtol=1e-6
    )


def test_a_penalty_at_the_end_of_the_grid_is_told(problem, caplog):
    rows = torch.from_numpy(problem[0]).double()
    outputs = torch.from_numpy(problem[1]).double().flatten(1)
    settings = RidgeSettings(penalties=(1e-12, 1e-11))
    with caplog.at_level(logging.WARNING, logger="neuraldiffuser"):
        choose_penalty(rows, outputs @ outputs.T, settings, seed=0)
    assert "is at the end of decoder.ridge.penalties; others beyond it may be better" in caplog.text


def test_fewer_images_than_folds_are_refused(problem):
    with pytest.raises(ConfigError) as error:
        fit_ridge(problem[0][:4], problem[1][:4], RidgeSettings(), seed=0)
    assert str(error.value) == (
        "decoder.ridge.folds is 5, but there are only 4 training images; use fewer folds."
    )


@pytest.mark.parametrize("which", [0, 1])
def test_values_that_are_not_finite_are_refused(problem, which):
    arrays = [array.copy() for array in problem]
    arrays[which][2, 1] = np.nan
    name = ("voxels", "targets")[which]
    with pytest.raises(DataError, match=f"^{name} of ridge regression holds"):
        fit_ridge(*arrays, RidgeSettings(), seed=0)
