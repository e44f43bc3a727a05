"""Where each voxel's betas lie in an HDF5 session: HDF5's own index, read only where it matters.

NSD's sessions are uncompressed, one voxel of all trials per chunk, so the voxels of a region are a
fortieth of the file. The chunks are indexed by a version-1 B-tree (HDF5 file format specification,
level 1A1): a node lists its children in the order of their offsets, and each covers the offsets
from its own up to the next one's. The tree is walked level by level, all nodes of a level at once,
and children without a wanted voxel are left out.

Neither the index nor the chunks carry a checksum. Signatures, levels, order, sizes and addresses
are checked, and that no two chunks overlap: a damaged index is refused, a damaged value is not.
"""

from dataclasses import dataclass

import h5py
import numpy as np

from neuraldiffuser.errors import DataError
from neuraldiffuser.transfer.ranges import RangeFile, RangeReader, read_blocks

GAP = 1 << 14  # bytes; joins the voxels of a cortical region, at half as many bytes again
CHUNK_NODE = b"TREE\x01"  # signature and type of a node that indexes chunks
HEADER = np.dtype([("kind", "S5"), ("level", "u1"), ("used", "<u2"), ("siblings", "<u8", 2)])
ENTRY = np.dtype(
    [("bytes", "<u4"), ("skipped_filters", "<u4"), ("offset", "<u8", 5), ("address", "<u8")]
)
CLOSING_KEY = ENTRY.itemsize - 8  # bytes; a node ends with a key that has no child


@dataclass(frozen=True)
class VoxelChunks:
    """Dataset ``betas`` (trials, z, y, x) in NSD's layout, and the root of its chunk index."""

    shape: tuple[int, int, int, int]
    dtype: np.dtype
    fill: np.generic  # value of voxels that were never written
    root: int  # address
    level: int  # of the root; leaves have level 0
    node_bytes: int

    @property
    def chunk_bytes(self) -> int:
        """Bytes of one voxel's betas."""
        return self.shape[0] * self.dtype.itemsize

    @property
    def node(self) -> np.dtype:
        """A node of the tree, as it is stored."""
        capacity = (self.node_bytes - HEADER.itemsize - CLOSING_KEY) // ENTRY.itemsize
        return np.dtype(
            {
                "names": [*HEADER.names, "entries"],
                "formats": [*(HEADER[name] for name in HEADER.names), (ENTRY, capacity)],
                "offsets": [*(HEADER.fields[name][1] for name in HEADER.names), HEADER.itemsize],
                "itemsize": self.node_bytes,
            }
        )


def describe(reader: RangeReader) -> VoxelChunks | None:
    """Opens the file with h5py and finds the root of its chunk index; None in other layouts.

    Raises:
        DataError: the file is truncated, is no HDF5 file or has no dataset ``betas``.
    """
    # h5py's descriptor must be closed before the file that it reads from.
    with RangeFile(reader) as content, _open(reader, content) as file:
        betas = file.get("betas")
        if not isinstance(betas, h5py.Dataset):
            raise DataError(f"{reader.name} has no dataset betas; {reader.remedy}.")
        root = _find_root(reader, betas, content) if _has_voxel_chunks(betas) else None
        if root is None:
            return None
        address, node = root
        level = int(np.frombuffer(node, HEADER, 1)["level"][0])
        return VoxelChunks(betas.shape, betas.dtype, betas.fillvalue, address, level, len(node))


def _open(reader: RangeReader, content: RangeFile) -> h5py.File:
    try:
        return h5py.File(content, "r")
    except OSError as error:
        raise DataError(
            f"{reader.name} is truncated or is no HDF5 file; {reader.remedy}."
        ) from error


def _has_voxel_chunks(betas: h5py.Dataset) -> bool:
    creation = betas.file.id.get_create_plist()
    return (
        betas.chunks == (len(betas), 1, 1, 1)
        and betas.id.get_create_plist().get_nfilters() == 0
        and creation.get_sizes() == (8, 8)
        and creation.get_userblock() == 0
    )


def _find_root(
    reader: RangeReader, betas: h5py.Dataset, content: RangeFile
) -> tuple[int, bytes] | None:
    """Address and bytes of the first node that HDF5 reads to look up a chunk, if it has any."""
    seen = len(content.reads)
    try:
        betas[0, 0, 0, 0]
    except OSError as error:
        raise _damaged(reader, "HDF5 finds no first voxel") from error
    nodes = (read for read in content.reads[seen:] if read[1].startswith(CHUNK_NODE))
    return next(nodes, None)


def read_voxels(reader: RangeReader, chunks: VoxelChunks, *, index: np.ndarray) -> np.ndarray:
    """The stored values of some voxels.

    Args:
        reader: the file.
        chunks: what ``describe`` says of it.
        index: int64 (voxels,) flat C-order index into the (x, y, z) volume.

    Returns:
        (trials, voxels) in the file's dtype, each voxel's trials contiguous.

    Raises:
        DataError: the chunk index is damaged or points beyond the file.
        FetchError: a remote object could not be read, or was replaced meanwhile.
    """
    _, depth, height, width = chunks.shape
    x, y, z = np.unravel_index(index, (width, height, depth))
    wanted = (z * height + y) * width + x
    leaves = _find_leaves(reader, chunks, np.sort(wanted))
    stored = _linear(leaves["offset"], chunks)
    written = np.isin(wanted, stored)
    addresses = leaves["address"][np.searchsorted(stored, wanted[written])].astype(np.int64)
    blocks = read_blocks(reader, addresses, length=chunks.chunk_bytes, gap=GAP)
    columns = blocks.view(chunks.dtype)
    return columns.T if written.all() else _fill(columns, written, fill=chunks.fill).T


def _fill(columns: np.ndarray, written: np.ndarray, *, fill: np.generic) -> np.ndarray:
    """All voxels (voxels, trials), from those that were written."""
    everything = np.full((len(written), columns.shape[1]), fill, columns.dtype)
    everything[written] = columns
    return everything


def _find_leaves(reader: RangeReader, chunks: VoxelChunks, wanted: np.ndarray) -> np.ndarray:
    """The entries (ENTRY) of all leaf nodes that may hold a wanted offset (ascending)."""
    nodes = np.array([chunks.root])
    for level in range(chunks.level, 0, -1):
        children = _read_entries(reader, chunks, nodes, level=level)
        _require_addresses(reader, children, length=chunks.node_bytes)
        lower = _linear(children["offset"], chunks)
        # Of a child before one that was left out this bound is too high, which only reads more.
        upper = np.append(lower[1:], np.iinfo(np.int64).max)
        holds = np.searchsorted(wanted, upper) > np.searchsorted(wanted, lower)
        nodes = children["address"][holds].astype(np.int64)
    leaves = _read_entries(reader, chunks, nodes, level=0)
    _require_addresses(reader, leaves, length=chunks.chunk_bytes)
    if (leaves["bytes"] != chunks.chunk_bytes).any() or leaves["skipped_filters"].any():
        raise _damaged(reader, "a chunk does not hold one voxel of all trials")
    return leaves


def _read_entries(
    reader: RangeReader, chunks: VoxelChunks, addresses: np.ndarray, *, level: int
) -> np.ndarray:
    """The entries (ENTRY) of the nodes of one level, joined; their offsets must ascend."""
    blocks = read_blocks(reader, addresses, length=chunks.node_bytes, gap=GAP)
    nodes = blocks.view(chunks.node)[:, 0]
    capacity = nodes["entries"].shape[1]
    if (nodes["kind"] != CHUNK_NODE).any() or (nodes["level"] != level).any():
        raise _damaged(reader, f"an address of level {level} leads to no node of that level")
    if (nodes["used"] > capacity).any():
        raise _damaged(reader, f"a node claims more than {capacity} entries")
    entries = nodes["entries"][np.arange(capacity) < nodes["used"][:, None]]
    trials, depth, height, width = chunks.shape
    inside = (entries["offset"] < np.array([1, depth, height, width, 1], np.uint64)).all()
    if not inside or (np.diff(_linear(entries["offset"], chunks)) <= 0).any():
        raise _damaged(reader, "its offsets are out of order or outside the volume")
    return entries


def _linear(offset: np.ndarray, chunks: VoxelChunks) -> np.ndarray:
    """Offsets (entries, 5) of trial, z, y, x and byte as one number each, in their order."""
    _, _, height, width = chunks.shape
    _, z, y, x, _ = offset.astype(np.int64).T
    return (z * height + y) * width + x


def _require_addresses(reader: RangeReader, entries: np.ndarray, *, length: int) -> None:
    addresses = np.sort(entries["address"])
    if len(addresses) and addresses[-1] > reader.size - length:
        raise _damaged(reader, "an address lies beyond the end of the file")
    if (np.diff(addresses) < length).any():
        raise _damaged(reader, "two of its addresses overlap")


def _damaged(reader: RangeReader, reason: str) -> DataError:
    return DataError(f"{reader.name} has a damaged index ({reason}); {reader.remedy}.")
