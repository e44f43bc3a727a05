"""Correlations against scipy and numpy, one pair at a time."""

import numpy as np
import pytest
import scipy.stats
import torch

from neuraldiffuser.evaluation.correlation import (
    column_correlation,
    cross_correlation,
    paired_correlation,
)


@pytest.fixture
def pair():
    generator = np.random.default_rng(0)
    first = generator.normal(3, 2, size=(6, 40))
    return first, 0.5 * first + generator.normal(size=(6, 40))


def test_paired_correlation_is_scipys(pair):
    expected = [scipy.stats.pearsonr(a, b).statistic for a, b in zip(*pair, strict=True)]
    found = paired_correlation(*map(torch.from_numpy, pair))
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_cross_correlation_is_numpys(pair):
    first, second = pair[0], pair[1][:4]
    found = cross_correlation(torch.from_numpy(first), torch.from_numpy(second))
    np.testing.assert_allclose(found, np.corrcoef(first, second)[:6, 6:], rtol=1e-12)


def test_column_correlation_is_scipys_and_its_contributions_average_to_the_mean(pair):
    r, contributions = column_correlation(*map(torch.from_numpy, pair))
    columns = range(pair[0].shape[1])
    expected = [scipy.stats.pearsonr(pair[0][:, k], pair[1][:, k]).statistic for k in columns]
    np.testing.assert_allclose(r, expected, rtol=1e-12)
    assert contributions.shape == (6,)
    np.testing.assert_allclose(contributions.mean(), np.mean(expected), rtol=1e-12)


@pytest.mark.parametrize("value", [0.0, 0.1, 255.0])
def test_a_constant_row_correlates_with_nothing(value):
    rows = torch.tensor([[1.0, 2.0, 4.0]]), torch.full((1, 3), value)
    assert paired_correlation(*rows).item() == 0


def test_a_faint_pattern_on_a_bright_ground_still_correlates():
    pattern = torch.tensor([[0.0, 1.0, 0.0, 3.0]], dtype=torch.float64)
    assert paired_correlation(pattern, 1e3 + 1e-4 * pattern).item() == pytest.approx(1, abs=1e-6)
