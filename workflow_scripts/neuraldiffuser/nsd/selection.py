"""Which voxels of a volume are used, and what is known of each before any betas are read."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neuraldiffuser import storage
from neuraldiffuser.errors import DataError
from neuraldiffuser.nsd import rois
from neuraldiffuser.nsd.noise_ceiling import noise_ceiling


@dataclass(frozen=True)
class Selection:
    """The nsdgeneral voxels of a volume and what is known of each."""

    volume_shape: tuple[int, int, int]
    index: np.ndarray  # (voxels,) int64, flat C-order index into the volume
    roi: np.ndarray  # (voxels,) uint8, prf-visualrois label, 0 = none
    noise_ceiling: np.ndarray  # (voxels,) float32, percent of the variance of a three-trial mean

    def choose(self, keep: np.ndarray) -> "Selection":
        """The voxels at which ``keep`` (voxels,) is True."""
        return Selection(
            volume_shape=self.volume_shape,
            index=self.index[keep],
            roi=self.roi[keep],
            noise_ceiling=self.noise_ceiling[keep],
        )


def read_selection(
    *, path_to_mask: Path | str, path_to_areas: Path | str, path_to_ncsnr: Path | str
) -> Selection:
    """The nsdgeneral voxels with their visual areas and noise ceilings.

    Raises:
        DataError: a volume is damaged, the three differ in shape, no voxel is in nsdgeneral, or a
            signal-to-noise ratio is negative or infinite.
    """
    mask, areas, ncsnr = map(rois.read_volume, (path_to_mask, path_to_areas, path_to_ncsnr))
    if not mask.shape == areas.shape == ncsnr.shape:
        raise DataError(
            f"{path_to_mask}, {path_to_areas} and {path_to_ncsnr} have shapes {mask.shape}, "
            f"{areas.shape} and {ncsnr.shape}; expected one shape: fetch them again."
        )
    index = rois.nsdgeneral_index(mask)
    if not len(index):
        raise DataError(f"{path_to_mask} has no voxel with label 1; fetch it again.")
    return Selection(
        volume_shape=tuple(map(int, mask.shape)),
        index=index,
        roi=rois.visual_labels(areas, index=index),
        noise_ceiling=_read_ceilings(ncsnr.ravel()[index].astype(np.float64), path_to_ncsnr),
    )


def _read_ceilings(ratios: np.ndarray, path: Path | str) -> np.ndarray:
    # A voxel without a full set of data has NaN here, and no signal to explain.
    known = np.where(np.isnan(ratios), 0, ratios)
    storage.require_finite(known, str(path))
    if known.min() < 0:
        raise DataError(f"{path} holds a signal-to-noise ratio below 0; fetch it again.")
    return noise_ceiling(known).astype(np.float32)
