"""Single-trial betas: HDF5 or NIfTI files to rows of voxels, in one and the same voxel order.

MATLAB wrote the HDF5 as (x, y, z, trials), which row-major readers see as (trials, z, y, x); the
NIfTI is (x, y, z, trials) with x running fastest. So both hold volume after volume in one order,
and become rows whose columns are voxels of the (x, y, z) volume, chosen by flat C-order index.
"""

import io
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import nibabel
import numpy as np
from isal import igzip, isal_zlib
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nibabel.volumeutils import apply_read_scaling

from neuraldiffuser import storage
from neuraldiffuser.errors import DataError
from neuraldiffuser.nsd import chunk_index
from neuraldiffuser.transfer.ranges import LocalRanges

UNITS_PER_PERCENT = 300  # the int16 values are percent signal change times 300
BYTES_AT_ONCE = 1 << 22  # of volumes that are read to pick their voxels; a few fit the cache

Reader = Callable[[Path, np.ndarray, tuple[int, int, int]], np.ndarray]


def read_session(
    path: Path | str, *, index: np.ndarray, volume_shape: tuple[int, int, int]
) -> np.ndarray:
    """The betas of one session at the indexed voxels, as they are stored.

    Args:
        path: betas_sessionNN.hdf5, .nii.gz or .nii, or .nsdgeneral.hdf5 (see ``region_betas``).
        index: int64 (voxels,) ascending flat C-order index into the (x, y, z) volume.
        volume_shape: (x, y, z) that the masks have.

    Returns:
        (trials, voxels): in NSD int16, percent signal change times ``UNITS_PER_PERCENT``; in the
        machine's byte order. Rows or columns may be the contiguous ones.

    Raises:
        DataError: the file is missing or damaged, has another shape, holds other voxels, or is not
            finite.
    """
    rows = _reader(str(path))(Path(path), index, tuple(volume_shape))
    if rows.dtype.kind == "f":
        storage.require_finite(rows, str(path))
    return rows.astype(rows.dtype.newbyteorder("="), copy=False)


# --- formats -----------------------------------------------------------------------------------


def read_hdf5(path: Path, index: np.ndarray, volume_shape: tuple[int, int, int]) -> np.ndarray:
    """Stored values (trials, voxels) of dataset ``betas`` (trials, z, y, x)."""
    with LocalRanges(path) as reader:
        chunks = chunk_index.describe(reader)
        if chunks is not None:
            require_shape(path, chunks.shape[:0:-1], volume_shape)
            return chunk_index.read_voxels(reader, chunks, index=index)
    with storage.open_arrays(path) as file:
        require_shape(path, file["betas"].shape[:0:-1], volume_shape)
        try:
            return _read_slabs(file["betas"], index, volume_shape)
        except OSError as error:
            raise DataError(f"{path} is truncated; delete it and run again.") from error


def read_region(path: Path, index: np.ndarray, volume_shape: tuple[int, int, int]) -> np.ndarray:
    """Stored values (trials, voxels) of a session that was reduced to these very voxels."""
    stored_shape = tuple(storage.read_attributes(path).get("volume_shape", ()))
    require_shape(path, stored_shape, volume_shape)
    if not np.array_equal(storage.read_array(path, "index"), index):
        raise DataError(f"{path} holds other voxels than the mask; delete it and run again.")
    return storage.read_array(path, "betas")


def read_nifti(path: Path, index: np.ndarray, volume_shape: tuple[int, int, int]) -> np.ndarray:
    """Values (trials, voxels) of an image (x, y, z, trials), scaled if its header says so."""
    try:
        image = nibabel.load(path)
        require_shape(path, image.shape[:-1], volume_shape)
        with _open_stream(path) as stream:
            rows = _stream_volumes(stream, image.dataobj, _by_column(index, volume_shape))
            surplus = stream.read(1)  # reading to the end also has the checksum compared
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing; fetch it again.") from error
    except (OSError, EOFError, ValueError, *DAMAGES) as error:
        raise DataError(f"{path} is truncated or is no NIfTI file; delete it and run again.") from (
            error
        )
    if surplus:
        raise DataError(f"{path} is longer than its header says; delete it and run again.")
    return rows


READERS: dict[str, Reader] = {  # the longer of two suffixes first
    ".nsdgeneral.hdf5": read_region,
    ".hdf5": read_hdf5,
    ".nii.gz": read_nifti,
    ".nii": read_nifti,
}
DAMAGES = (zlib.error, isal_zlib.error, ImageFileError, HeaderDataError)


def _reader(path: str) -> Reader:
    for suffix, reader in READERS.items():
        if path.endswith(suffix):
            return reader
    raise DataError(f"{path} is of no known format; expected one of {', '.join(READERS)}.")


def require_shape(path: object, found: tuple[int, ...], expected: tuple[int, int, int]) -> None:
    """Raises DataError unless the volumes of ``path`` have the shape of the masks."""
    if tuple(found) != tuple(expected):
        raise DataError(
            f"{path} holds volumes of shape {tuple(map(int, found))}, but the masks have "
            f"{tuple(map(int, expected))} (x, y, z); they belong to different subjects or spaces."
        )


# --- volumes -----------------------------------------------------------------------------------


def _by_column(index: np.ndarray, volume_shape: tuple[int, int, int]) -> np.ndarray:
    """Flat C-order indices into (x, y, z) as they count in files, where x runs fastest."""
    return np.ravel_multi_index(np.unravel_index(index, volume_shape), volume_shape, order="F")


def _read_slabs(
    betas: h5py.Dataset, index: np.ndarray, volume_shape: tuple[int, int, int]
) -> np.ndarray:
    """Picks voxels from a dataset (trials, z, y, x) of any layout; each chunk is read once."""
    trials, depth, *plane = betas.shape
    columns = _by_column(index, volume_shape)
    z = columns // np.prod(plane)
    rows = np.empty((trials, len(index)), betas.dtype)
    step, thickness = _slab_size(betas)
    for bottom in range(0, depth, thickness):
        here = np.flatnonzero(z // thickness == bottom // thickness)
        inside = columns[here] - bottom * np.prod(plane)
        for first in range(0, trials if len(here) else 0, step):
            slab = betas[first : first + step, bottom : bottom + thickness]
            rows[first : first + step, here] = slab.reshape(len(slab), -1)[:, inside]
    return rows


def _slab_size(betas: h5py.Dataset) -> tuple[int, int]:
    """Trials and planes to read at once: whole chunks, and no more bytes than they force."""
    trials, thickness = betas.chunks[:2] if betas.chunks else (1, betas.shape[1])
    chunk_bytes = trials * thickness * int(np.prod(betas.shape[2:])) * betas.dtype.itemsize
    return trials * max(1, BYTES_AT_ONCE // chunk_bytes), thickness


def _open_stream(path: Path) -> io.BufferedIOBase:
    return igzip.open(path) if path.suffix == ".gz" else path.open("rb")


def _stream_volumes(
    stream: io.BufferedIOBase, proxy: nibabel.arrayproxy.ArrayProxy, columns: np.ndarray
) -> np.ndarray:
    """Picks voxels from volumes that follow one another, a few volumes in memory at a time."""
    *volume, trials = proxy.shape
    rows = np.empty((trials, len(columns)), proxy.dtype)
    step = max(1, BYTES_AT_ONCE // (int(np.prod(volume)) * proxy.dtype.itemsize))
    buffer = np.empty((step, int(np.prod(volume))), proxy.dtype)
    _fill(stream, np.empty(proxy.offset, np.uint8))
    for first in range(0, trials, step):
        block = buffer[: trials - first]
        _fill(stream, block)
        block.take(columns, axis=1, out=rows[first : first + step], mode="clip")
    return apply_read_scaling(rows, proxy.slope, proxy.inter)


def _fill(stream: io.BufferedIOBase, block: np.ndarray) -> None:
    """Fills an array from a stream; raises EOFError where that ends before."""
    rest = memoryview(block.reshape(-1).view(np.uint8))
    while rest:
        count = stream.readinto(rest)
        if not count:
            raise EOFError
        rest = rest[count:]
