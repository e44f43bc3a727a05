"""The pruned walk against h5py's own reading, and damaged nodes one field at a time."""

import re
import struct

import h5py
import numpy as np
import pytest

from neuraldiffuser.errors import DataError
from neuraldiffuser.nsd import chunk_index
from neuraldiffuser.transfer.ranges import LocalRanges

SHAPE = (22, 25, 20)  # 11,000 chunks: three levels of nodes
TRIALS = 3
VOXELS = int(np.prod(SHAPE))
NODE, LEAF = b"TREE\x01\x01", b"TREE\x01\x00"
FIRST_ENTRY = 24  # bytes into a node: bytes, skipped filters, offset of five numbers, address
SECOND_ENTRY = FIRST_ENTRY + 56
OFFSET, ADDRESS = 8, 48  # bytes into an entry


def write_session(path, *, order, fill=0):
    """Chunks of the voxels (flat C-order (z, y, x)) in ``order``, each holding its own number."""
    with h5py.File(path, "w") as file:
        shape, chunks = (TRIALS, *SHAPE[::-1]), (TRIALS, 1, 1, 1)
        betas = file.create_dataset("betas", shape, "<i2", chunks=chunks, fillvalue=fill)
        for voxel in order:
            place = np.unravel_index(voxel, SHAPE[::-1])
            content = np.arange(voxel, voxel + TRIALS).astype("<i2").tobytes()
            betas.id.write_direct_chunk((0, *place), content)
    return path


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    """A session's bytes; its chunks lie in order."""
    path = tmp_path_factory.mktemp("session") / "betas_session01.hdf5"
    return write_session(path, order=range(VOXELS)).read_bytes()


class CountingRanges(LocalRanges):
    """Adds up the bytes that are read."""

    bytes_read = 0

    def read_into(self, start, view):
        self.bytes_read += len(view)
        super().read_into(start, view)


def read(path, index):
    with CountingRanges(path) as reader:
        rows = chunk_index.read_voxels(reader, chunk_index.describe(reader), index=index)
        return rows, reader.bytes_read


def rows_by_h5py(path, index):
    with h5py.File(path) as file:
        volumes = file["betas"][()].transpose(3, 2, 1, 0)
    return volumes.reshape(VOXELS, TRIALS)[index].T


@pytest.mark.parametrize("seed", range(3))
def test_scattered_voxels_of_a_scattered_file_equal_h5py(tmp_path, seed):
    rng = np.random.default_rng(seed)
    order = rng.permutation(VOXELS)[: VOXELS - 900 * seed]
    path = write_session(tmp_path / "betas_session01.hdf5", order=order, fill=-9)
    index = np.sort(rng.choice(VOXELS, 600, replace=False))
    rows, _ = read(path, index)
    np.testing.assert_array_equal(rows, rows_by_h5py(path, index))
    assert ((rows == -9).all(axis=0).any()) == (seed > 0)


@pytest.mark.parametrize("index", [[0], [VOXELS - 1], [0, VOXELS - 1], np.arange(VOXELS)])
def test_the_edges_of_the_volume_are_found(tmp_path, content, index):
    path = tmp_path / "betas_session01.hdf5"
    path.write_bytes(content)
    rows, _ = read(path, np.array(index))
    np.testing.assert_array_equal(rows, rows_by_h5py(path, index))


def test_few_voxels_cost_few_bytes(tmp_path, content):
    path = tmp_path / "betas_session01.hdf5"
    path.write_bytes(content)
    _, few = read(path, np.array([5000]))
    _, all_of_it = read(path, np.arange(VOXELS))
    assert few < 0.25 * len(content) < 0.9 * len(content) < all_of_it


def test_no_voxels_give_no_columns(tmp_path, content):
    path = tmp_path / "betas_session01.hdf5"
    path.write_bytes(content)
    rows, _ = read(path, np.empty(0, np.int64))
    assert rows.shape == (TRIALS, 0)


# --- damage: where in a node, what is written there, and what is said of it ----------------------

DAMAGES = {
    "signature": (LEAF, 0, b"NODE", "an address of level 0 leads to no node of that level"),
    "type": (LEAF, 4, b"\x00", "an address of level 0 leads to no node of that level"),
    "level": (LEAF, 5, b"\x01", "an address of level 0 leads to no node of that level"),
    "inner level": (NODE, 5, b"\x02", "an address of level 1 leads to no node of that level"),
    "entries": (LEAF, 6, b"\xff\xff", "a node claims more than 64 entries"),
    "size": (LEAF, FIRST_ENTRY, b"\x05", "a chunk does not hold one voxel of all trials"),
    "filters": (LEAF, FIRST_ENTRY + 4, b"\x01", "a chunk does not hold one voxel of all trials"),
    "order": (
        LEAF,
        FIRST_ENTRY + OFFSET + 8,
        struct.pack("<Q", 19),
        "its offsets are out of order or outside the volume",
    ),
    "outside": (
        LEAF,
        SECOND_ENTRY + OFFSET + 24,
        struct.pack("<Q", 22),
        "its offsets are out of order or outside the volume",
    ),
    "beyond": (
        LEAF,
        SECOND_ENTRY + ADDRESS,
        struct.pack("<Q", 1 << 63),
        "an address lies beyond the end of the file",
    ),
    "inner beyond": (
        NODE,
        SECOND_ENTRY + ADDRESS,
        struct.pack("<Q", 1 << 40),
        "an address lies beyond the end of the file",
    ),
}


def middle_node(content, kind):
    """Where a node lies that h5py does not pass on its way to the first voxel."""
    places = [found.start() for found in re.finditer(kind, content)]
    return places[len(places) // 2]


def read_damaged(path, content, start, written):
    path.write_bytes(content[:start] + written + content[start + len(written) :])
    with pytest.raises(DataError) as error:
        read(path, np.arange(VOXELS))
    return str(error.value)


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_index_is_refused(tmp_path, content, name):
    kind, position, written, reason = DAMAGES[name]
    path = tmp_path / "betas_session01.hdf5"
    message = read_damaged(path, content, middle_node(content, kind) + position, written)
    assert message == f"{path} has a damaged index ({reason}); delete it and run again."


@pytest.mark.parametrize("shift", [-1, 1])
def test_an_address_that_is_off_by_a_byte_is_refused(tmp_path, content, shift):
    start = middle_node(content, LEAF) + SECOND_ENTRY + ADDRESS
    [address] = struct.unpack_from("<Q", content, start)
    written = struct.pack("<Q", address + shift)
    path = tmp_path / "betas_session01.hdf5"
    assert "two of its addresses overlap" in read_damaged(path, content, start, written)


def test_a_damaged_root_is_refused(tmp_path, content):
    path = tmp_path / "betas_session01.hdf5"
    message = read_damaged(path, content, content.index(b"TREE\x01\x02"), b"ROOT")
    assert "has a damaged index (HDF5 finds no first voxel)" in message
