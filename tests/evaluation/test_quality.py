"""Qualities of sets against their closed forms."""

import numpy as np
import pytest
import scipy.linalg
import torch

from neuraldiffuser.errors import DataError
from neuraldiffuser.evaluation.quality import frechet_distance, inception_score


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
