"""Bootstrap and sign flips: against loops, scipy, enumeration, and their promised coverage."""

from itertools import combinations, product

import numpy as np
import pytest
import scipy.stats

from neuraldiffuser.config.evaluation import BootstrapSettings
from neuraldiffuser.errors import DataError
from neuraldiffuser.evaluation import statistics
from neuraldiffuser.evaluation.statistics import (
    adjust_holm,
    bootstrap_mean,
    bootstrap_ratio,
    sign_flip_test,
)

SETTINGS = BootstrapSettings(draws=2000)


def test_interval_is_that_of_a_loop_over_the_same_resamples():
    values = np.random.default_rng(0).normal(size=12)
    means = []
    for counts in np.concatenate(list(statistics.resample_counts(12, SETTINGS))):
        assert counts.sum() == 12
        means.append(np.mean(np.repeat(values, counts)))
    found = bootstrap_mean(values, SETTINGS)
    assert found.estimate == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(means, [2.5, 97.5])))


def test_interval_agrees_with_scipys_bootstrap():
    values = np.random.default_rng(1).exponential(size=60)
    found = bootstrap_mean(values, BootstrapSettings(draws=20_000))
    reference = scipy.stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=20_000, rng=np.random.default_rng(0)
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx(tuple(reference), rel=0.02)


def test_interval_covers_the_truth_as_often_as_it_says():
    generator = np.random.default_rng(2)
    samples = generator.normal(1.0, 2.0, size=(40, 600))  # 600 experiments of 40 images
    covered = {}
    for level in (0.5, 0.95):
        found = bootstrap_mean(samples, BootstrapSettings(draws=500, level=level))
        covered[level] = ((found.low < 1) & (found.high > 1)).mean()
    assert covered[0.95] == pytest.approx(0.95, abs=0.035)
    assert covered[0.5] == pytest.approx(0.5, abs=0.06)


def test_columns_share_their_resamples_so_equal_columns_have_equal_intervals():
    values = np.random.default_rng(3).normal(size=20)
    found = bootstrap_mean(np.stack([values, values, -values], axis=1), SETTINGS)
    assert found.low[0] == found.low[1] == pytest.approx(bootstrap_mean(values, SETTINGS).low)
    assert found.low[2] == pytest.approx(-found.high[0])


def test_ratios_of_columns_are_those_of_each_column_alone():
    generator = np.random.default_rng(5)
    trials = generator.integers(1, 9, size=(20, 3))
    successes = generator.binomial(trials, 0.4)
    found = bootstrap_ratio(successes, trials, SETTINGS)
    for k in range(3):
        alone = bootstrap_ratio(successes[:, k], trials[:, k], SETTINGS)
        ends = (found.estimate[k], found.low[k], found.high[k])
        assert ends == pytest.approx((alone.estimate, alone.low, alone.high))


def test_draws_at_once_do_not_change_the_values(monkeypatch):
    values = np.random.default_rng(4).normal(size=(20, 2))
    whole, p = bootstrap_mean(values, SETTINGS), sign_flip_test(values, SETTINGS)
    monkeypatch.setattr(statistics, "VALUES_AT_ONCE", 20 * 7)
    parts = bootstrap_mean(values, SETTINGS)
    np.testing.assert_allclose(parts.low, whole.low, rtol=1e-12)
    np.testing.assert_array_equal(sign_flip_test(values, SETTINGS), p)


@pytest.mark.parametrize("change", [{"seed": 1}, {"draws": 1000}, {"level": 0.9}])
def test_every_setting_changes_the_interval(change):
    values = np.random.default_rng(5).normal(size=30)
    changed = SETTINGS.model_copy(update=change)
    assert bootstrap_mean(values, SETTINGS).low != bootstrap_mean(values, changed).low


def test_ratio_weighs_images_by_their_trials():
    successes, trials = np.array([1.0, 9.0]), np.array([1, 10])
    found = bootstrap_ratio(successes, trials, SETTINGS)
    assert found.estimate == pytest.approx(10 / 11)
    assert (found.low, found.high) == (pytest.approx(0.9), pytest.approx(1))


def test_sign_flip_test_is_the_enumeration_of_all_signs():
    differences = np.array([0.9, 1.1, -0.2, 0.7, 0.4, 0.8])
    sums = [abs(np.dot(signs, differences)) for signs in product([-1, 1], repeat=6)]
    exact = np.mean(np.array(sums) >= abs(differences.sum()) - 1e-12)
    found = sign_flip_test(differences[:, None], BootstrapSettings(draws=50_000))
    assert found[0] == pytest.approx(exact, abs=0.005)


def test_sign_flip_test_finds_a_difference_and_spares_none():
    generator = np.random.default_rng(6)
    differences = np.stack([generator.normal(1, 1, 50), generator.normal(0, 1, 50)], axis=1)
    p = sign_flip_test(differences, SETTINGS)
    assert p[0] == pytest.approx(1 / 2001)
    assert p[1] > 0.05


def test_sign_flip_test_is_uniform_without_a_difference():
    differences = np.random.default_rng(7).normal(size=(25, 800))
    p = sign_flip_test(differences, BootstrapSettings(draws=300))
    assert (p < 0.05).mean() == pytest.approx(0.05, abs=0.03)


def test_holm_is_the_closure_of_bonferroni():
    """By the closure principle: a hypothesis falls only with every set of them that holds it."""
    p_values = np.random.default_rng(3).uniform(0, 0.5, 6)
    p_values[4] = p_values[1]
    sets = [chosen for size in range(1, 7) for chosen in combinations(range(6), size)]
    expected = [
        max(min(1, len(chosen) * min(p_values[list(chosen)])) for chosen in sets if i in chosen)
        for i in range(6)
    ]
    np.testing.assert_allclose(adjust_holm(p_values), expected, rtol=1e-12)
    assert max(expected) > min(expected) > p_values.min()


def test_a_value_that_is_missing_is_refused():
    """Else no draw is as extreme, and the smallest p of all comes out."""
    values = np.array([1.0, np.nan, -1.0])
    for statistic in (bootstrap_mean, sign_flip_test):
        with pytest.raises(DataError, match="needs a finite value of each"):
            statistic(values, SETTINGS)
