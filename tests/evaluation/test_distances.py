"""Distances of features against scipy."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import correlation

from neuraldiffuser.evaluation.correlation import correlate, standardise
from neuraldiffuser.evaluation.distances import correlation_distance


def cross(first, second):
    return correlate(standardise(first), standardise(second))


def test_correlation_distance_is_scipys():
    generator = np.random.default_rng(0)
    stimuli, repeats = generator.normal(size=(4, 20)), generator.normal(size=(2, 4, 20))
    matrices = [cross(torch.from_numpy(stimuli), torch.from_numpy(k)) for k in repeats]
    found = correlation_distance(torch.stack(matrices))
    for image, repeat in np.ndindex(4, 2):
        expected = correlation(stimuli[image], repeats[repeat, image])
        assert found[image, repeat].item() == pytest.approx(expected)


def test_the_distance_of_identical_features_is_zero_and_grows_with_noise():
    features = torch.randn(10, 50, generator=torch.manual_seed(0))
    noise = torch.randn(10, 50, generator=torch.manual_seed(1))
    found = [
        correlation_distance(cross(features, features + scale * noise)[None]).mean()
        for scale in (0.0, 0.5, 2.0)
    ]
    assert found[0] == pytest.approx(0, abs=1e-12)
    assert found[0] < found[1] < found[2]
