"""How well predicted responses follow measured ones, voxel by voxel."""

import numpy as np

from neuraldiffuser.errors import DataError


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
