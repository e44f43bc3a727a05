"""Ridge regression against closed forms, plain loops in float64 and planted maps.

Both shapes run everywhere: more voxels than images, and more images than voxels.
"""

import logging

import numpy as np
import pytest
import torch
from sklearn.linear_model import RidgeCV

from neuraldiffuser.config.decoder import RidgeSettings
from neuraldiffuser.decoders import ridge
from neuraldiffuser.decoders.ridge import (
    choose_penalty,
    factorise,
    fit_ridge,
    measure_errors,
    multiply_outputs,
)
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
    return RidgeSettings(penalties=(penalty,))


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
    found = fit_ridge(voxels, targets, one_penalty(penalty)).predict(new)
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
    found = fit_ridge(voxels, targets, one_penalty(30.0)).predict(voxels)
    expected = rows @ weights + outputs.mean(0)
    np.testing.assert_allclose(found.reshape(-1, 12), expected, rtol=1e-6)


def errors_by_loop(rows, outputs, penalties):
    """For each image, a fit with an intercept on the others; squared errors of all of them."""
    found = np.zeros(len(penalties))
    for image in range(len(rows)):
        kept = np.arange(len(rows)) != image
        x, y = rows[kept] - rows[kept].mean(0), outputs[kept] - outputs[kept].mean(0)
        for index, penalty in enumerate(penalties):
            weights = np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ y)
            guess = (rows[image] - rows[kept].mean(0)) @ weights + outputs[kept].mean(0)
            found[index] += np.square(guess - outputs[image]).sum()
    return found


def decompose(voxels, targets):
    """Standardised rows and plain outputs in float64, and what is made of them."""
    rows = standardise(voxels, voxels.mean(0, dtype=float), voxels.std(0, dtype=float))
    outputs = targets.reshape(len(targets), -1).astype(float)
    factors = factorise(torch.from_numpy(rows))
    return rows, outputs, factors, multiply_outputs(outputs, factors.scores)


@pytest.mark.parametrize("images_at_once", [7, 1000])
def test_errors_equal_those_of_a_fit_for_each_image(problem, monkeypatch, images_at_once):
    monkeypatch.setattr(ridge, "IMAGES_AT_ONCE", images_at_once)
    rows, outputs, factors, products = decompose(*problem)
    found = measure_errors(factors, products, PENALTIES)
    np.testing.assert_allclose(found.numpy(), errors_by_loop(rows, outputs, PENALTIES), rtol=1e-7)


@pytest.mark.parametrize("noise", [0.1, 3.0, 300.0])
def test_the_chosen_penalty_is_that_of_an_exhaustive_loop(noise):
    voxels, targets = make_problem(60, 50, noise)
    rows, outputs, *_ = decompose(voxels, targets)
    errors = errors_by_loop(rows, outputs, PENALTIES)
    fitted = fit_ridge(voxels, targets, RidgeSettings(penalties=PENALTIES))
    assert fitted.penalty == PENALTIES[errors.argmin()]


@pytest.mark.parametrize("noise", [0.1, 3.0, 300.0])
def test_the_chosen_penalty_is_scikit_learns(noise):
    """Its errors left out one at a time, in float64, summed over outputs as ours are."""
    voxels, targets = make_problem(60, 50, noise)
    rows, outputs, *_ = decompose(voxels, targets)
    theirs = RidgeCV(alphas=PENALTIES, store_cv_results=True).fit(rows, outputs)
    fitted = fit_ridge(voxels, targets, RidgeSettings(penalties=PENALTIES))
    assert fitted.penalty == PENALTIES[theirs.cv_results_.sum(axis=(0, 1)).argmin()]


def test_more_noise_asks_for_a_larger_penalty():
    settings = RidgeSettings(penalties=PENALTIES)
    chosen = [fit_ridge(*make_problem(60, 50, n), settings).penalty for n in (0.1, 3, 300)]
    assert chosen[0] < chosen[1] < chosen[2]


def test_a_planted_map_is_recovered_from_images_never_seen():
    generator = np.random.default_rng(0)
    mapping = generator.standard_normal((30, 6))
    voxels = generator.standard_normal((400, 30)).astype(np.float32)
    targets = voxels @ mapping + 0.1 * generator.standard_normal((400, 6)) + 3
    settings = RidgeSettings(penalties=PENALTIES)
    fitted = fit_ridge(voxels[:300], targets[:300], settings)
    found = fitted.predict(voxels[300:])
    np.testing.assert_allclose(found, voxels[300:] @ mapping + 3, atol=0.2)


def test_shuffled_targets_are_predicted_by_their_mean():
    voxels, targets = make_problem(90, 15)
    shuffled = targets[np.random.default_rng(3).permutation(90)]
    fitted = fit_ridge(voxels, shuffled, RidgeSettings())
    guess = fitted.predict(voxels)
    assert fitted.penalty >= 1e3
    assert np.square(guess - shuffled.mean(0)).mean() < 0.01 * shuffled.var(axis=0).mean()


def test_blocks_of_outputs_change_nothing(problem, monkeypatch):
    whole = fit_ridge(*problem, RidgeSettings())
    monkeypatch.setattr(ridge, "OUTPUTS_AT_ONCE", 5)
    parts = fit_ridge(*problem, RidgeSettings())
    assert parts.penalty == whole.penalty
    np.testing.assert_allclose(parts.predict(problem[0]), whole.predict(problem[0]), rtol=1e-6)


def test_half_precision_targets_are_computed_in_float64(problem):
    voxels, targets = problem
    halves = targets.astype(np.float16)
    found = fit_ridge(voxels, halves, one_penalty(10.0)).predict(voxels)
    wide = fit_ridge(voxels, halves.astype(np.float64), one_penalty(10.0)).predict(voxels)
    np.testing.assert_array_equal(found, wide)


def test_a_voxel_that_never_changes_has_no_say(problem):
    voxels, targets = problem
    constant = np.full((len(voxels), 1), 5, np.float32)
    with_constant = np.hstack([voxels, constant])
    found = fit_ridge(with_constant, targets, one_penalty(10.0))
    expected = fit_ridge(voxels, targets, one_penalty(10.0)).predict(voxels)
    np.testing.assert_allclose(
        found.predict(np.hstack([voxels, constant + 3])), expected, rtol=1e-6
    )


def test_a_penalty_at_the_end_of_the_grid_is_told(problem, caplog):
    *_, factors, products = decompose(*problem)
    with caplog.at_level(logging.WARNING, logger="neuraldiffuser"):
        choose_penalty(factors, products, (1e8, 1e9))
    assert "is at the end of decoder.ridge.penalties; others beyond it may be better" in caplog.text


def test_too_few_images_are_refused(problem):
    with pytest.raises(ConfigError) as error:
        fit_ridge(problem[0][:2], problem[1][:2], RidgeSettings())
    assert str(error.value) == (
        "Ridge regression needs 3 training images or more and was given 2; lower "
        "decoder.validation_images or fetch more sessions."
    )


@pytest.mark.parametrize("which", [0, 1])
def test_values_that_are_not_finite_are_refused(problem, which):
    arrays = [array.copy() for array in problem]
    arrays[which][2, 1] = np.nan
    name = ("voxels", "targets")[which]
    with pytest.raises(DataError, match=f"^{name} of ridge regression holds"):
        fit_ridge(*arrays, RidgeSettings())
