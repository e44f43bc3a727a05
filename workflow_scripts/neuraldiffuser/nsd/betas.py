"""Single-trial betas: HDF5 or NIfTI files to rows of voxels, in one and the same voxel order.

MATLAB wrote the HDF5 as (x, y, z, trials), which row-major readers see as (trials, z, y, x); the
NIfTI is (x, y, z, trials). Both become rows whose columns are voxels of the (x, y, z) volume,
chosen by flat C-order index.
"""

from collections.abc import Callable
from pathlib import Path

import h5py
import nibabel
import numpy as np

from neuraldiffuser import storage
from neuraldiffuser.errors import DataError

UNITS_PER_PERCENT = 300  # the int16 values are percent signal change times 300


def read_session(
    path: Path | str, *, index: np.ndarray, volume_shape: tuple[int, int, int]
) -> np.ndarray:
    """The betas of one session at the indexed voxels, in percent signal change.

    Args:
        path: betas_sessionNN.hdf5 or betas_sessionNN.nii.gz.
        index: (voxels,) ascending flat C-order index into the (x, y, z) volume.
        volume_shape: (x, y, z) that the masks have.

    Returns:
        (trials, voxels) float32.

    Raises:
        DataError: the file is missing or truncated, has another shape, or is not finite.
    """
    reader = next(read for suffix, read in READERS.items() if str(path).endswith(suffix))
    rows = reader(Path(path), index, volume_shape).astype(np.float32)
    storage.require_finite(rows, str(path))
    return rows / UNITS_PER_PERCENT


def read_hdf5(path: Path, index: np.ndarray, volume_shape: tuple[int, int, int]) -> np.ndarray:
    """Stored values (trials, voxels) of dataset ``betas`` (trials, z, y, x)."""
    with storage.open_arrays(path) as file:
        if "betas" not in file:
            raise DataError(f"{path} has no dataset betas; delete it and run again.")
        betas = file["betas"]
        _require_shape(path, betas.shape[:0:-1], volume_shape)
        try:
            return _hdf5_layout(betas)(betas, index, volume_shape)
        except OSError as error:
            raise DataError(f"{path} is truncated; delete it and run again.") from error


def read_nifti(path: Path, index: np.ndarray, volume_shape: tuple[int, int, int]) -> np.ndarray:
    """Stored values (trials, voxels) of an image (x, y, z, trials), volume by volume."""
    try:
        image = nibabel.load(path, keep_file_open=True)
        _require_shape(path, image.shape[:3], volume_shape)
        proxy = image.dataobj
        volumes = (np.asarray(proxy[..., trial]) for trial in range(image.shape[3]))
        return np.stack([volume.ravel()[index] for volume in volumes])
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing; fetch it again.") from error
    except (OSError, EOFError, ValueError, nibabel.filebasedimages.ImageFileError) as error:
        raise DataError(f"{path} is truncated or is no NIfTI file; delete it and run again.") from (
            error
        )


READERS: dict[str, Callable[[Path, np.ndarray, tuple[int, int, int]], np.ndarray]] = {
    ".hdf5": read_hdf5,
    ".nii.gz": read_nifti,
}


def _require_shape(path: Path, found: tuple[int, ...], expected: tuple[int, int, int]) -> None:
    if tuple(found) != tuple(expected):
        raise DataError(
            f"{path} holds volumes of shape {tuple(found)}, but the masks have {tuple(expected)} "
            "(x, y, z); they belong to different subjects or spaces."
        )


def _hdf5_layout(betas: h5py.Dataset) -> Callable[..., np.ndarray]:
    """How to read a dataset: in NSD's own layout (one voxel per chunk, as is) or any other."""
    one_voxel_chunks = betas.chunks == (len(betas), 1, 1, 1) and betas.compression is None
    return _read_voxel_chunks if one_voxel_chunks else _read_planes


def _read_voxel_chunks(
    betas: h5py.Dataset, index: np.ndarray, volume_shape: tuple[int, int, int]
) -> np.ndarray:
    """Reads only the chunks of the indexed voxels: about a fortieth of an NSD session."""
    x, y, z = np.unravel_index(index, volume_shape)
    columns = np.empty((len(index), len(betas)), betas.dtype)
    for column, place in zip(columns, zip(z, y, x, strict=True), strict=True):
        _, chunk = betas.id.read_direct_chunk((0, *map(int, place)))
        column[:] = np.frombuffer(chunk, betas.dtype)
    return columns.T


def _read_planes(
    betas: h5py.Dataset, index: np.ndarray, volume_shape: tuple[int, int, int]
) -> np.ndarray:
    """Reads one z plane of all trials at a time, in any layout of the file."""
    x, y, z = np.unravel_index(index, volume_shape)
    rows = np.empty((len(betas), len(index)), betas.dtype)
    for plane in np.unique(z):
        here = z == plane
        rows[:, here] = betas[:, plane][:, y[here], x[here]]
    return rows
