"""Decoding accuracy against scipy, scikit-learn's definition of R^2, and plain resampling."""

import numpy as np
import pytest
import scipy.stats
import torch

from neuraldiffuser.evaluation.decoding import MEASURES, measure_decoding

MEAN = np.random.default_rng(5).normal(2, 3, size=(3, 4))


@pytest.fixture
def pair():
    """Targets around a mean feature of their own, and decoded ones with scale and error."""
    generator = np.random.default_rng(0)
    target = MEAN + generator.normal(size=(15, 3, 4))
    return torch.from_numpy(0.6 * target + generator.normal(size=(15, 3, 4))), target


def pearson(decoded, target):
    return scipy.stats.pearsonr(decoded, target).statistic


def r2(decoded, target):
    return 1 - ((target - decoded) ** 2).sum() / ((target - target.mean()) ** 2).sum()


def reference(measure, decoded, target):
    """One pair of vectors at a time."""
    score = {"pearson": pearson, "r2": r2}[measure.split("_")[0]]
    if measure.endswith("_dimensions"):
        decoded, target = decoded.T, target.T
    if measure.endswith("_centred"):
        decoded, target = decoded - MEAN.ravel(), target - MEAN.ravel()
    return [score(a, b) for a, b in zip(decoded, target, strict=True)]


def measured(decoded, target):
    return measure_decoding(decoded, target, torch.from_numpy(MEAN))


@pytest.mark.parametrize("measure", MEASURES)
def test_values_are_the_references_and_images_average_to_their_mean(measure, pair):
    decoded, target = pair
    found = measured(decoded, torch.from_numpy(target))[measure]
    expected = reference(measure, decoded.numpy().reshape(15, -1), target.reshape(15, -1))
    np.testing.assert_allclose(found.values, expected, rtol=1e-10)
    assert found.by_image.shape == (15,)
    assert found.by_image.mean().item() == pytest.approx(np.mean(expected))


@pytest.mark.parametrize("measure", ["pearson_dimensions", "r2_dimensions"])
def test_resampled_values_spread_like_the_measure_of_resampled_images(measure):
    """The honest interval takes the images anew and measures again; ours resamples values."""
    generator = np.random.default_rng(1)
    target = generator.normal(size=(120, 6))
    decoded = 0.9 * target + 0.5 * generator.normal(size=(120, 6))
    rows = torch.from_numpy(decoded), torch.from_numpy(target)
    values = measure_decoding(*rows, torch.zeros(6))[measure].by_image.numpy()
    drawn = generator.integers(0, 120, size=(1500, 120))
    expected = [np.mean(reference(measure, decoded[some], target[some])) for some in drawn]
    assert values[drawn].mean(axis=1).std() == pytest.approx(np.std(expected), rel=0.1)


@pytest.mark.parametrize("measure", MEASURES)
def test_perfect_decoding_scores_one_and_noise_scores_less(measure, pair):
    target = torch.from_numpy(pair[1])
    perfect, noisy = measured(target, target), measured(pair[0], target)
    assert perfect[measure].values.mean().item() == pytest.approx(1)
    assert noisy[measure].values.mean() < 0.99


def test_the_mean_feature_scores_only_where_embeddings_are_raw(pair):
    target = torch.from_numpy(pair[1])
    mean = torch.from_numpy(MEAN).expand_as(target)
    found = {name: accuracy.values for name, accuracy in measured(mean, target).items()}
    assert found["pearson_samples_raw"].mean() > 0.7
    assert found["r2_samples_raw"].mean() > 0.5
    assert (found["pearson_dimensions"] == 0).all()
    assert (found["pearson_samples_centred"] == 0).all()
    assert (found["r2_dimensions"] <= 0).all()
    assert (found["r2_samples_centred"] <= 0).all()


def test_dimensions_that_never_vary_are_left_out(pair):
    target = torch.from_numpy(pair[1]).clone()
    target[:, 0, 0] = 3.0
    found = measured(pair[0], target)
    assert len(found["pearson_dimensions"].values) == 11
    assert all(torch.isfinite(accuracy.values).all() for accuracy in found.values())
