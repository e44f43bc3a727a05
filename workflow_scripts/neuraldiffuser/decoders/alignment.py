"""Momentum alignment: gives predictions the mean and deviation of the training targets.

Equations 6 and 7 of the paper. Registry ``ALIGNMENTS``: whose statistics are removed. Source:
HaoyyLi/NeuralDiffuser, src/score_z.py (statistics of the test predictions themselves).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

Predictions = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Statistics:
    """Mean and population deviation of each dimension, of the shape of one embedding."""

    mean: np.ndarray
    deviation: np.ndarray


def measure(rows: np.ndarray) -> Statistics:
    """Statistics of (n, *shape) rows in float64; a constant dimension has deviation 1."""
    deviation = rows.std(axis=0, dtype=np.float64)
    return Statistics(rows.mean(axis=0, dtype=np.float64), np.where(deviation > 0, deviation, 1.0))


def align(rows: np.ndarray, source: Statistics, target: Statistics) -> np.ndarray:
    """Equations 6 and 7: (rows - source mean) / source deviation, then to the target's; float32."""
    standardised = (rows - source.mean) / source.deviation
    return (standardised * target.deviation + target.mean).astype(np.float32)


def test_statistics(predictions: Predictions) -> Statistics:
    """Of the test predictions: what is aligned sees the whole test set (released)."""
    return measure(predictions["test"])


def validation_statistics(predictions: Predictions) -> Statistics:
    """Of predictions for training images that no training saw (corrected)."""
    return measure(predictions["validation"])


ALIGNMENTS: dict[str, Callable[[Predictions], Statistics] | None] = {
    "test_predictions": test_statistics,
    "validation_predictions": validation_statistics,
    "none": None,
}


def align_all(
    predictions: Predictions, training_targets: np.ndarray, *, alignment: str
) -> dict[str, np.ndarray]:
    """Aligns every group of predictions by one common map.

    Args:
        predictions: ``test`` and ``validation``, each (n, *shape).
        training_targets: (images, *shape), one row per training image.
        alignment: a name in ``ALIGNMENTS``.

    Returns:
        The groups aligned, float32; unchanged for "none".
    """
    measure_source = ALIGNMENTS[alignment]
    if measure_source is None:
        return dict(predictions)
    source, target = measure_source(predictions), measure(training_targets)
    return {group: align(rows, source, target) for group, rows in predictions.items()}
