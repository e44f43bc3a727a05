"""A session reduced to the nsdgeneral voxels, by reading only their byte ranges.

``betas_sessionNN.nsdgeneral.hdf5`` lies where the whole file would: ``betas`` (trials, voxels) as
stored, ``index`` int64 (voxels,), attributes ``volume_shape`` and ``source``.

What is verified: that all ranges come from one version of the object (size and ETag in every
answer), that they have the lengths asked for, and that the index of chunks is whole (see
``chunk_index``). What is not: the values, because the stores' digests are of whole objects; with
nsd.fetch whole they are.
"""

import io
from pathlib import Path

import h5py
import numpy as np

from neuraldiffuser import runtime, storage
from neuraldiffuser.errors import AlteredObjectError
from neuraldiffuser.nsd import betas, chunk_index
from neuraldiffuser.transfer import digests, disk, stores, whole
from neuraldiffuser.transfer.ranges import RemoteRanges
from neuraldiffuser.transfer.stores import RemoteObject


def fetch_region(
    address: str,
    path: Path | str,
    *,
    index: np.ndarray,
    volume_shape: tuple[int, int, int],
    region: str | None = None,
) -> None:
    """Fetches the indexed voxels of a session in HDF5; whole, where its layout is not NSD's.

    Args:
        address: of the session; see ``stores.locate``.
        path: where they go.
        index: int64 (voxels,) ascending flat C-order index into the (x, y, z) volume.
        volume_shape: (x, y, z) that the masks have.
        region: of an s3:// bucket.

    Raises:
        MissingObjectError: there is no such object.
        AlteredObjectError: it was replaced meanwhile.
        FetchError: it could not be read, or the disk is full.
        DataError: it is truncated or damaged, or has another shape.
    """
    path = Path(path)
    path_to_whole = path.with_suffix(".whole.hdf5")
    voxels = {"index": index, "volume_shape": volume_shape}
    remote = stores.locate(address, region=region)
    rows = _read_ranges(remote, path, **voxels)
    if rows is None:
        runtime.logger.warning("%s is not laid out voxel by voxel: it is fetched whole.", address)
        if not _has_arrived(path_to_whole, remote):
            whole.fetch(address, path_to_whole, region=region)
        rows = betas.read_session(path_to_whole, **voxels)
    attributes = {"volume_shape": volume_shape, "source": address}
    _write(path, {"betas": rows, "index": index}, attributes)
    path_to_whole.unlink(missing_ok=True)
    runtime.record(etag=remote.etag)  # of a copy on disk it tells a date, so the file does without


def _read_ranges(
    remote: RemoteObject, path: Path, *, index: np.ndarray, volume_shape: tuple[int, int, int]
) -> np.ndarray | None:
    """Stored values (trials, voxels); None where they do not lie voxel by voxel."""
    with RemoteRanges(remote) as reader:
        chunks = chunk_index.describe(reader)
        if chunks is None:
            return None
        betas.require_shape(remote.address, chunks.shape[:0:-1], volume_shape)
        disk.require_space(path, len(index) * chunks.chunk_bytes, source=remote.address)
        return chunk_index.read_voxels(reader, chunks, index=index)


def _has_arrived(path: Path, remote: RemoteObject) -> bool:
    """Whether an earlier run, which ended before it had read it, left this version."""
    if not path.exists() or path.stat().st_size != remote.size:
        return False
    try:
        digests.verify(path, remote)
    except AlteredObjectError:
        return False
    return True


def _write(path: Path, arrays: dict[str, np.ndarray], attributes: dict[str, object]) -> None:
    """Writes the file from memory, a few megabytes: on a full disk HDF5 itself would crash."""
    storage.require_finite(arrays["betas"], attributes["source"])
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        for name, array in arrays.items():
            file[name] = array
        file.attrs.update(attributes)
    with disk.writing(path):
        storage.write_bytes(path, content.getbuffer())
