"""Regions of interest: the nsdgeneral mask and the visual areas within it."""

from pathlib import Path

import nibabel
import numpy as np

from neuraldiffuser.errors import DataError

# prf-visualrois of the NSD data manual: V1v, V1d, V2v, V2d, V3v, V3d, hV4.
LABELS = {"V1": (1, 2), "V2": (3, 4), "V3": (5, 6), "V4": (7,)}
WHOLE = "nsdgeneral"
HIGHER = "higher"  # nsdgeneral without V1 to V4


def read_volume(path: Path | str) -> np.ndarray:
    """A 3-D NIfTI volume (x, y, z) as stored.

    Raises:
        DataError: the file is missing, truncated or not three-dimensional.
    """
    try:
        volume = np.asanyarray(nibabel.load(path).dataobj)
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing; fetch it again.") from error
    except Exception as error:  # nibabel, gzip and zlib have errors of their own
        raise DataError(f"{path} is truncated or is no NIfTI file; delete it and run again.") from (
            error
        )
    if volume.ndim != 3:
        raise DataError(f"{path} has shape {volume.shape}; expected a volume (x, y, z).")
    return volume


def nsdgeneral_index(mask: np.ndarray) -> np.ndarray:
    """Flat C-order index (voxels,) int64 of the voxels with label 1; -1 and 0 lie outside."""
    return np.flatnonzero(mask.ravel() == 1)


def visual_labels(volume: np.ndarray, *, index: np.ndarray) -> np.ndarray:
    """The prf-visualrois label (voxels,) uint8 of each indexed voxel; 0 where it has none."""
    return np.clip(volume.ravel()[index], 0, None).astype(np.uint8)


def regions(labels: np.ndarray) -> dict[str, np.ndarray]:
    """Boolean masks (voxels,) of nsdgeneral, V1 to V4 and the higher areas.

    Args:
        labels: (voxels,) prf-visualrois label of each nsdgeneral voxel.
    """
    areas = {name: np.isin(labels, values) for name, values in LABELS.items()}
    early = np.any(list(areas.values()), axis=0)
    return {WHOLE: np.ones(len(labels), bool), **areas, HIGHER: ~early}
