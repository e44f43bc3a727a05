"""Correlations against scipy and numpy, one pair at a time."""

import numpy as np
import pytest
import scipy.stats
import torch

from neuraldiffuser.evaluation import correlation
from neuraldiffuser.evaluation.correlation import (
    column_correlation,
    correlate,
    correlate_all,
    paired_correlation,
    standardise,
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


def cross(first, second):
    return correlate(standardise(first), standardise(second))


@pytest.mark.parametrize("columns", [8192, 7, 40])
def test_cross_correlation_is_numpys_however_many_columns_are_taken(pair, columns, monkeypatch):
    monkeypatch.setattr(correlation, "COLUMNS_AT_ONCE", columns)
    first, second = pair[0], pair[1][:4]
    found = cross(torch.from_numpy(first), torch.from_numpy(second))
    np.testing.assert_allclose(found, np.corrcoef(first, second)[:6, 6:], rtol=1e-12)


def test_sets_of_rows_are_correlated_set_by_set(pair):
    first, second = (torch.from_numpy(rows).unflatten(0, (2, 3)) for rows in pair)
    found = cross(first, second)
    for one in range(2):
        expected = np.corrcoef(first[one], second[one])[:3, 3:]
        np.testing.assert_allclose(found[one], expected, rtol=1e-12)


@pytest.mark.parametrize("columns", [8192, 7])
def test_rows_of_a_set_are_correlated_with_each_other(pair, columns, monkeypatch):
    monkeypatch.setattr(correlation, "COLUMNS_AT_ONCE", columns)
    sets = [torch.from_numpy(rows) for rows in pair]
    for one, found in zip(pair, correlate_all(torch.stack(sets)), strict=True):
        np.testing.assert_allclose(found, np.corrcoef(one), rtol=1e-12)


def test_no_more_columns_are_copied_than_fit_into_a_block(monkeypatch):
    """Long rows are standardised and correlated block by block: no copy is as long as they are."""
    widths = []

    class Watched(torch.Tensor):
        @classmethod
        def __torch_function__(cls, function, types, args=(), kwargs=None):
            made = super().__torch_function__(function, types, args, kwargs or {})
            if isinstance(made, torch.Tensor) and made.dtype == torch.float64:
                widths.append(made.shape[-1])
            return made

    monkeypatch.setattr(correlation, "COLUMNS_AT_ONCE", 16)
    rows = torch.randn(4, 200, generator=torch.manual_seed(0)).as_subclass(Watched)
    cross(rows, rows)
    assert max(widths) == 16


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
    assert cross(*rows).item() == 0
    assert correlate_all(torch.cat(rows)).tolist() == [[pytest.approx(1), 0], [0, 0]]


def test_a_faint_pattern_on_a_bright_ground_still_correlates():
    pattern = torch.tensor([[0.0, 1.0, 0.0, 3.0]], dtype=torch.float64)
    faint = 1e3 + 1e-4 * pattern
    assert paired_correlation(pattern, faint).item() == pytest.approx(1, abs=1e-6)
    assert cross(pattern, faint).item() == pytest.approx(1, abs=1e-6)
    assert correlate_all(torch.cat([pattern, faint]))[0, 1].item() == pytest.approx(1, abs=1e-6)
