import h5py
import numpy as np
import pytest

from neuraldiffuser.errors import DataError
from neuraldiffuser.nsd.stimuli import read_images


@pytest.fixture
def path(tmp_path):
    pictures = np.random.default_rng(0).integers(256, size=(9, 4, 5, 3), dtype=np.uint8)
    with h5py.File(tmp_path / "stimuli.hdf5", "w") as file:
        file["imgBrick"] = pictures
    return tmp_path / "stimuli.hdf5"


@pytest.mark.parametrize("ids", [[7, 2, 2, 0], [3, 4, 5], [8, 0], []])
def test_rows_follow_the_ids(path, ids):
    with h5py.File(path) as file:
        everything = file["imgBrick"][()]
    found = read_images(path, np.array(ids, int))
    np.testing.assert_array_equal(found, everything[ids])
    assert found.dtype == np.uint8


@pytest.mark.parametrize("ids", [[9], [-1, 2]])
def test_ids_beyond_the_file_are_refused(path, ids):
    with pytest.raises(DataError, match="holds 9 pictures, but ids"):
        read_images(path, np.array(ids))


def test_damaged_files_are_refused(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="truncated or is no HDF5 file"):
        read_images(path, np.array([1]))
    with h5py.File(path, "w") as file:
        file["pictures"] = np.zeros(3)
    with pytest.raises(DataError, match="has no dataset imgBrick"):
        read_images(path, np.array([1]))


@pytest.mark.parametrize(
    "pictures", [np.zeros((9, 4, 5), np.uint8), np.zeros((9, 4, 5, 3), np.float32)]
)
def test_other_arrays_than_pictures_are_refused(path, pictures):
    with h5py.File(path, "w") as file:
        file["imgBrick"] = pictures
    with pytest.raises(DataError) as error:
        read_images(path, np.array([1]))
    assert str(error.value) == (
        f"{path} holds imgBrick of shape {pictures.shape} and type {pictures.dtype}; expected "
        "(pictures, height, width, 3) and uint8: fetch it again."
    )
