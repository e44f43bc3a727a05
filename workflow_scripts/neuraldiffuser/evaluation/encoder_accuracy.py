"""How well a subject's encoding model does in each visual area, beside what noise allows."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from neuraldiffuser.config.evaluation import BootstrapSettings
from neuraldiffuser.evaluation.brain import Ceilings
from neuraldiffuser.evaluation.statistics import bootstrap_ratio

RELIABLE_CEILING = 20.0  # percent of variance; above it a voxel counts as reliable
MEASURED = ("voxels", "correlation", "ceiling", "fraction")
ACCURACY = ["area", *MEASURED, "low", "high", *(f"reliable_{name}" for name in MEASURED)]


def summarise_accuracy(
    correlation: np.ndarray,
    *,
    ceilings: Ceilings,
    areas: Mapping[str, np.ndarray],
    bootstrap: BootstrapSettings,
) -> pd.DataFrame:
    """Mean accuracy over all voxels of each area, and over the reliable ones beside it.

    Args:
        correlation: (voxels,) of predicted with measured responses, over images.
        ceilings: of these voxels and images.
        areas: boolean masks (voxels,) by name.
        bootstrap: draws, level and seed of the interval over voxels.

    Returns:
        One row per area with voxels in which something is explainable: its voxels, the mean
        correlation, the mean correlation of a perfect model, their ratio with its interval, and
        the same of voxels whose noise ceiling is above ``RELIABLE_CEILING`` (no interval).
    """
    attainable = np.sqrt(ceilings.shares)
    reliable = ceilings.percent > RELIABLE_CEILING
    rows = []
    for area, mask in areas.items():
        if attainable[mask].any():
            found = bootstrap_ratio(correlation[mask], attainable[mask], bootstrap)
            means = _average(correlation, attainable, mask)
            chosen = _average(correlation, attainable, mask & reliable)
            rows.append((area, *means, float(found.low), float(found.high), *chosen))
    return pd.DataFrame(rows, columns=ACCURACY)


def _average(
    correlation: np.ndarray, attainable: np.ndarray, mask: np.ndarray
) -> tuple[int, float, float, float]:
    """Voxels, mean correlation, mean attainable one and their ratio; NaN where no voxel is."""
    if not mask.any():
        return 0, np.nan, np.nan, np.nan
    means = (float(values[mask].mean(dtype=np.float64)) for values in (correlation, attainable))
    reached, largest = means
    return int(mask.sum()), reached, largest, reached / largest
