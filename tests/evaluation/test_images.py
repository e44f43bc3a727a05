"""Stimuli are joined by id; those without any pattern are refused."""

import numpy as np
import pytest

from neuraldiffuser import storage
from neuraldiffuser.errors import DataError
from neuraldiffuser.evaluation.images import constant_images, name_ids, read_stimuli


@pytest.fixture
def path(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, size=(6, 4, 4, 3), dtype=np.uint8)
    images[2] = 128
    storage.write_arrays(tmp_path / "stimuli.h5", {"imgBrick": images})
    return tmp_path / "stimuli.h5"


def test_stimuli_come_in_the_order_of_their_ids(path):
    found = read_stimuli(path, np.array([5, 0, 3]))
    np.testing.assert_array_equal(found, storage.read_array(path, "imgBrick")[[5, 0, 3]])


def test_a_stimulus_of_one_colour_is_refused_by_id(path):
    with pytest.raises(DataError) as error:
        read_stimuli(path, np.array([1, 2]))
    assert str(error.value) == (
        "the stimuli 2 are of one grey value, so that nothing correlates with them; "
        "restore the stimulus file or leave these images out."
    )


def test_an_image_of_one_value_is_constant_and_a_coloured_plane_is_not():
    plane = np.zeros((2, 4, 4, 3), np.uint8)
    plane[1, ..., 0] = 200
    assert constant_images(plane).tolist() == [True, False]


def test_many_ids_are_cut_short():
    assert name_ids(np.arange(3)) == "0, 1, 2"
    assert name_ids(np.arange(12)) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more"
