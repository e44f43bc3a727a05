"""Intervals and tests over images: one value per image goes in, never one per repeat."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from neuraldiffuser.config.evaluation import BootstrapSettings
from neuraldiffuser.errors import DataError

VALUES_AT_ONCE = 2**24


@dataclass(frozen=True)
class Interval:
    """A mean, or another ratio, with the ends of its percentile interval."""

    estimate: np.ndarray
    low: np.ndarray
    high: np.ndarray


def resample_counts(number: int, settings: BootstrapSettings) -> Iterator[np.ndarray]:
    """How often each of ``number`` images enters each resample, (some draws, number) at a time."""
    generator = np.random.default_rng(settings.seed)
    for draws in _draws_at_once(number, settings):
        yield generator.multinomial(number, np.full(number, 1 / number), size=draws)


def _draws_at_once(number: int, settings: BootstrapSettings) -> Iterator[int]:
    at_once = max(1, VALUES_AT_ONCE // number)
    for start in range(0, settings.draws, at_once):
        yield min(at_once, settings.draws - start)


def bootstrap_mean(values: np.ndarray, settings: BootstrapSettings) -> Interval:
    """Means over images with percentile intervals; all columns share their resamples.

    Args:
        values: (n,) or (n, k), one row per image.

    Returns:
        An interval of numbers, or of (k,) arrays.
    """
    return bootstrap_ratio(values, np.ones((len(values), *[1] * (values.ndim - 1))), settings)


def bootstrap_ratio(
    numerators: np.ndarray, denominators: np.ndarray, settings: BootstrapSettings
) -> Interval:
    """sum of numerators / sum of denominators over images, such as successes per trial.

    Args:
        numerators: (n,) or (n, k).
        denominators: (n,), or (n, k) or (n, 1), positive in sum for every resample.

    Raises:
        DataError: a value is not finite.
    """
    _refuse_gaps(numerators)
    _refuse_gaps(denominators)
    resampled = np.concatenate(
        [
            (counts @ numerators) / (counts @ denominators)
            for counts in resample_counts(len(numerators), settings)
        ]
    )
    tail = (1 - settings.level) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail], axis=0)
    return Interval(numerators.sum(axis=0) / denominators.sum(axis=0), low, high)


def sign_flip_test(differences: np.ndarray, settings: BootstrapSettings) -> np.ndarray:
    """Two-sided p of paired differences under random exchange of the pair: (n, k) to (k,).

    p = (1 + number of draws at least as extreme) / (1 + draws), so it is never 0.

    Raises:
        DataError: a difference is not finite.
    """
    _refuse_gaps(differences)
    generator = np.random.default_rng([settings.seed, 1])
    observed = np.abs(differences.sum(axis=0)) * (1 - 1e-12)  # equal sums may differ in rounding
    extreme = np.zeros(differences.shape[1:], dtype=np.int64)
    for draws in _draws_at_once(len(differences), settings):
        signs = 2.0 * generator.integers(0, 2, size=(draws, len(differences))) - 1.0
        extreme += (np.abs(signs @ differences) >= observed).sum(axis=0)
    return (1 + extreme) / (1 + settings.draws)


def _refuse_gaps(values: np.ndarray) -> None:
    if not np.isfinite(values).all():
        raise DataError(
            "a statistic over images needs a finite value of each; find the metric that has none."
        )


def adjust_holm(p_values: np.ndarray) -> np.ndarray:
    """p of several tests, raised so that any below a level is false with at most that chance: (k,).

    S. Holm, A simple sequentially rejective multiple test procedure, Scand. J. Stat. 6 (1979).
    """
    order = np.argsort(p_values, kind="stable")
    remaining = np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.maximum.accumulate(p_values[order] * remaining).clip(max=1)
    return adjusted
