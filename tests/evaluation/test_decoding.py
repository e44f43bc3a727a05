"""Decoding accuracy against scipy and the definition of R^2."""

import numpy as np
import pytest
import scipy.stats
import torch

from neuraldiffuser.evaluation.decoding import MEASURES, measure_decoding


@pytest.fixture
def pair():
    generator = np.random.default_rng(0)
    target = generator.normal(2, 1, size=(15, 3, 4))
    return torch.from_numpy(0.6 * target + generator.normal(size=(15, 3, 4))), target


def reference(measure, decoded, target):
    if measure == "pearson_samples":
        return [scipy.stats.pearsonr(a, b).statistic for a, b in zip(decoded, target, strict=True)]
    if measure == "pearson_dimensions":
        columns = zip(decoded.T, target.T, strict=True)
        return [scipy.stats.pearsonr(a, b).statistic for a, b in columns]
    residual = ((target - decoded) ** 2).sum(axis=0)
    return 1 - residual / ((target - target.mean(axis=0)) ** 2).sum(axis=0)


@pytest.mark.parametrize("measure", MEASURES)
def test_values_are_the_references_and_images_average_to_their_mean(measure, pair):
    decoded, target = pair
    found = measure_decoding(decoded, torch.from_numpy(target))[measure]
    expected = reference(measure, decoded.numpy().reshape(15, -1), target.reshape(15, -1))
    np.testing.assert_allclose(found.values, expected, rtol=1e-10)
    assert found.by_image.shape == (15,)
    assert found.by_image.mean().item() == pytest.approx(np.mean(expected))


@pytest.mark.parametrize("measure", MEASURES)
def test_perfect_decoding_scores_one_and_noise_scores_less(measure, pair):
    target = torch.from_numpy(pair[1])
    perfect, noisy = measure_decoding(target, target), measure_decoding(pair[0], target)
    assert perfect[measure].values.mean().item() == pytest.approx(1)
    assert noisy[measure].values.mean() < 0.95


def test_the_mean_feature_explains_nothing(pair):
    target = torch.from_numpy(pair[1])
    mean = target.mean(dim=0, keepdim=True).expand_as(target)
    found = measure_decoding(mean, target)
    assert (found["pearson_dimensions"].values == 0).all()
    assert found["r2"].values.mean().item() == pytest.approx(0, abs=1e-12)


def test_dimensions_that_never_vary_are_left_out(pair):
    target = torch.from_numpy(pair[1]).clone()
    target[:, 0, 0] = 3.0
    found = measure_decoding(pair[0], target)
    assert len(found["pearson_dimensions"].values) == 11
    assert all(torch.isfinite(accuracy.values).all() for accuracy in found.values())
