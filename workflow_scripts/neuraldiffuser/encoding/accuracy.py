"""How well predicted responses follow measured ones, voxel by voxel."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from neuraldiffuser.errors import DataError

RELIABLE_CEILING = 20.0  # percent of variance; accuracy is summarised over voxels above it


def correlate_voxels(predicted: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """Pearson correlation over images of each voxel.

    Args:
        predicted: (n, voxels).
        measured: (n, voxels), rows of the same images.

    Returns:
        (voxels,) float64; 0 for a voxel that is constant on either side, which follows nothing.

    Raises:
        DataError: the two differ in shape, or there are fewer than three images.
    """
    if predicted.shape != measured.shape or len(measured) < 3:
        raise DataError(
            f"Predicted responses have shape {predicted.shape} and measured ones {measured.shape}; "
            "expected equal shapes with three images or more."
        )
    centred = [values - values.mean(axis=0) for values in map(np.float64, (predicted, measured))]
    norms = np.linalg.norm(centred[0], axis=0) * np.linalg.norm(centred[1], axis=0)
    products = (centred[0] * centred[1]).sum(axis=0)
    return np.divide(products, norms, out=np.zeros_like(products), where=norms > 0)


def ceiling_correlation(noise_ceiling: np.ndarray) -> np.ndarray:
    """The correlation that a perfect model reaches where ``noise_ceiling`` % is explainable."""
    return np.sqrt(np.clip(noise_ceiling, 0, 100) / 100)


def summarise_accuracy(
    correlation: np.ndarray, *, noise_ceiling: np.ndarray, regions: Mapping[str, np.ndarray]
) -> pd.DataFrame:
    """Mean accuracy over the reliable voxels of each region.

    Args:
        correlation: (voxels,) from ``correlate_voxels``.
        noise_ceiling: (voxels,) percent of the variance of a three-trial mean.
        regions: boolean masks (voxels,) by name.

    Returns:
        One row per region with reliable voxels: region, voxels, correlation, ceiling (the
        correlation of a perfect model), fraction (their ratio).
    """
    reliable = noise_ceiling > RELIABLE_CEILING
    ceiling = ceiling_correlation(noise_ceiling)
    chosen = {name: mask & reliable for name, mask in regions.items()}
    rows = [
        {
            "region": name,
            "voxels": int(mask.sum()),
            "correlation": correlation[mask].mean(),
            "ceiling": ceiling[mask].mean(),
        }
        for name, mask in chosen.items()
        if mask.any()
    ]
    table = pd.DataFrame(rows, columns=["region", "voxels", "correlation", "ceiling"])
    return table.assign(fraction=table["correlation"] / table["ceiling"])
