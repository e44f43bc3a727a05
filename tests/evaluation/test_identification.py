"""Two-way identification against plain loops, by hand, and at chance."""

import numpy as np
import pytest
import torch

from neuraldiffuser.evaluation.correlation import correlate, standardise
from neuraldiffuser.evaluation.identification import (
    IDENTIFICATION,
    identify_like_mindeye,
    identify_like_takagi,
)


def cross(first, second):
    return correlate(standardise(first), standardise(second))


def mindeye_by_loop(correlations):
    repeats, number, _ = correlations.shape
    shares = np.zeros((number, repeats))
    for repeat in range(repeats):
        for image in range(number):
            own = correlations[repeat, image, image]
            others = [correlations[repeat, i, image] for i in range(number) if i != image]
            shares[image, repeat] = np.mean([other < own for other in others])
    return shares


def takagi_by_loop(correlations):
    repeats, number, _ = correlations.shape
    shares = np.zeros(number)
    for image in range(number):
        own = np.mean([correlations[k, image, image] for k in range(repeats)])
        others = [
            np.mean([correlations[k, image, other] for k in range(repeats)])
            for other in range(number)
            if other != image
        ]
        shares[image] = np.mean([own > other for other in others])
    return shares


LOOPS = {"mindeye": mindeye_by_loop, "takagi": takagi_by_loop}


@pytest.mark.parametrize("convention", IDENTIFICATION)
def test_identification_is_the_loops(convention):
    correlations = np.random.default_rng(0).uniform(-1, 1, size=(3, 8, 8))
    found = IDENTIFICATION[convention](torch.from_numpy(correlations)).numpy()
    np.testing.assert_array_equal(found, LOOPS[convention](correlations))


def test_the_conventions_differ_by_hand():
    # Rows are stimuli, columns reconstructions. Reconstruction 0 resembles stimulus 1 more than its
    # own (column 0: .5 < .9), yet stimulus 0 resembles no other reconstruction more (row 0).
    correlations = torch.tensor([[[0.5, 0.4, 0.3], [0.9, 0.8, 0.1], [0.2, 0.1, 0.7]]])
    mindeye = identify_like_mindeye(correlations)
    assert mindeye.tolist() == [[0.5], [1.0], [1.0]]
    assert identify_like_takagi(correlations).tolist() == [1.0, 0.5, 1.0]


def test_takagi_averages_the_repeats_before_it_compares():
    # Two of three repeats fail narrowly, one succeeds by far: the mean succeeds.
    narrow, far = [[0.50, 0.51], [0.0, 1.0]], [[0.9, 0.1], [0.0, 1.0]]
    correlations = torch.tensor([narrow, narrow, far])
    assert identify_like_takagi(correlations).tolist() == [1.0, 1.0]
    failing = identify_like_mindeye(correlations.mT)
    assert failing.tolist() == [[0.0, 0.0, 1.0], [1.0, 1.0, 1.0]]


@pytest.mark.parametrize("convention", IDENTIFICATION)
def test_identical_features_are_always_identified_and_shuffled_ones_by_chance(convention):
    features = torch.randn(200, 30, generator=torch.manual_seed(0))
    other = torch.randn(200, 30, generator=torch.manual_seed(1))
    identify = IDENTIFICATION[convention]
    assert (identify(cross(features, features)[None]) == 1).all()
    assert identify(cross(features, other)[None]).mean() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("convention", IDENTIFICATION)
def test_noise_lowers_identification(convention):
    features = torch.randn(100, 30, generator=torch.manual_seed(0))
    noise = torch.randn(100, 30, generator=torch.manual_seed(1))
    identify = IDENTIFICATION[convention]
    found = [
        identify(cross(features, features + scale * noise)[None]).mean()
        for scale in (0.5, 2.0, 8.0)
    ]
    assert found[0] > found[1] > found[2]


@pytest.mark.parametrize("convention", IDENTIFICATION)
def test_a_tie_does_not_identify(convention):
    assert (IDENTIFICATION[convention](torch.zeros(2, 4, 4)) == 0).all()
