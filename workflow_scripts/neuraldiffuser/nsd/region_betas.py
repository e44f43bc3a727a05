"""A session reduced to the nsdgeneral voxels, by reading only their byte ranges.

``betas_sessionNN.nsdgeneral.hdf5`` lies where the whole file would: ``betas`` (trials, voxels) as
stored, ``index`` int64 (voxels,), attributes ``volume_shape``, ``source`` and ``etag``.

What is verified: that all ranges come from one version of the object (size and ETag in every
answer), that they have the lengths asked for, and that the index of chunks is whole (see
``chunk_index``). What is not: the values, because the stores' digests are of whole objects; with
nsd.fetch whole they are.
"""

from pathlib import Path

import numpy as np

from neuraldiffuser import runtime, storage
from neuraldiffuser.nsd import betas, chunk_index
from neuraldiffuser.transfer import stores, whole
from neuraldiffuser.transfer.ranges import RemoteRanges


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
        FetchError: it could not be read.
        DataError: it is truncated or damaged, or has another shape.
    """
    remote = stores.locate(address, region=region)
    rows = _read_remote(remote, index, volume_shape)
    if rows is None:
        runtime.logger.warning("%s is not laid out voxel by voxel: it is fetched whole.", address)
        rows = _read_whole(address, Path(path), index, volume_shape, region)
    storage.write_arrays(
        path,
        {"betas": rows, "index": index},
        {"volume_shape": volume_shape, "source": address, "etag": remote.etag},
    )


def _read_remote(
    remote: stores.RemoteObject, index: np.ndarray, volume_shape: tuple[int, int, int]
) -> np.ndarray | None:
    with RemoteRanges(remote) as reader:
        chunks = chunk_index.describe(reader)
        if chunks is None:
            return None
        betas.require_shape(remote.address, chunks.shape[:0:-1], volume_shape)
        return chunk_index.read_voxels(reader, chunks, index=index)


def _read_whole(
    address: str,
    path: Path,
    index: np.ndarray,
    volume_shape: tuple[int, int, int],
    region: str | None,
) -> np.ndarray:
    copy = path.with_suffix(".whole.hdf5")
    whole.fetch(address, copy, region=region)
    try:
        return betas.read_session(copy, index=index, volume_shape=volume_shape)
    finally:
        copy.unlink()
