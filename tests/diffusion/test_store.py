"""Shards come back as one set of images, in the order of their ids."""

import tracemalloc

import numpy as np
import pandas as pd
import pytest

from neuraldiffuser import storage
from neuraldiffuser.diffusion.store import read_reconstructions, write_reconstructions
from neuraldiffuser.errors import DataError


def images_of(ids, repeats=2):
    """Images that hold their id and repeat."""
    images = np.zeros((len(ids), repeats, 4, 5, 3), np.uint8)
    return (
        images
        + np.array(ids, np.uint8)[:, None, None, None, None]
        + np.arange(repeats, dtype=np.uint8).reshape(1, -1, 1, 1, 1)
    )


def write(path, ids, **changes):
    arguments = {"ids": np.array(ids), "images": images_of(ids), "attributes": {"scale": 2.5}}
    write_reconstructions(path, **(arguments | changes))
    return path


def test_shards_are_joined_by_id(tmp_path):
    paths = [write(tmp_path / "shard-0.h5", [40, 50]), write(tmp_path / "shard-1.h5", [7])]
    ids, images = read_reconstructions(paths)
    assert ids.tolist() == [7, 40, 50]
    assert np.array_equal(images, images_of([7, 40, 50]))
    assert storage.read_attributes(paths[0])["scale"] == 2.5


def test_an_image_in_two_shards_is_refused(tmp_path):
    paths = [write(tmp_path / "a.h5", [40, 50]), write(tmp_path / "b.h5", [50])]
    with pytest.raises(DataError, match="share images; delete them and run again"):
        read_reconstructions(paths)


def test_shards_of_other_repeats_are_refused(tmp_path):
    paths = [
        write(tmp_path / "a.h5", [40]),
        write(tmp_path / "b.h5", [50], images=images_of([50], repeats=3)),
    ]
    with pytest.raises(DataError, match="one shape is expected"):
        read_reconstructions(paths)


def test_a_truncated_shard_is_named(tmp_path):
    path = write(tmp_path / "a.h5", [40])
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match="a.h5 is truncated"):
        read_reconstructions([path])


@pytest.mark.parametrize("images", [images_of([1]).astype(float), images_of([1, 2])])
def test_images_that_do_not_fit_are_not_written(tmp_path, images):
    with pytest.raises(DataError, match=r"but uint8 \(1, repeats, h, w, 3\) is expected"):
        write(tmp_path / "a.h5", [1], images=images)
    assert not (tmp_path / "a.h5").exists()


def choose(path, repeats_by_id, *, repeats=2):
    """A selection as its stage writes it."""
    rows = [
        (number, repeat, 0.1, repeat == chosen)
        for number, chosen in repeats_by_id.items()
        for repeat in range(repeats)
    ]
    storage.write_table(path, pd.DataFrame(rows, columns=["id", "repeat", "similarity", "chosen"]))
    return path


def test_a_selection_leaves_the_chosen_repeat_of_each_image(tmp_path):
    paths = [write(tmp_path / "shard-0.h5", [40, 50]), write(tmp_path / "shard-1.h5", [7])]
    ids, images = read_reconstructions(paths, choose(tmp_path / "s.csv", {7: 1, 40: 0, 50: 1}))
    assert ids.tolist() == [7, 40, 50]
    assert images.shape == (3, 1, 4, 5, 3)
    assert images[:, 0, 0, 0, 0].tolist() == [7 + 1, 40, 50 + 1]


@pytest.mark.parametrize("chosen", [None, 3])
def test_no_more_is_held_than_is_returned(tmp_path, chosen):
    rng = np.random.default_rng(0)
    ids = rng.permutation(60).reshape(10, 6)
    made = rng.integers(256, size=(60, 5, 100, 100, 3), dtype=np.uint8)
    paths = [
        write(tmp_path / f"shard-{k}.h5", some, images=made[some]) for k, some in enumerate(ids)
    ]
    selection = None
    if chosen is not None:
        selection = choose(tmp_path / "s.csv", dict.fromkeys(range(60), chosen), repeats=5)
    read_reconstructions(paths, selection)  # what is imported on use stays
    tracemalloc.start()
    try:
        _, images = read_reconstructions(paths, selection)
        held = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert np.array_equal(images, made if chosen is None else made[:, [chosen]])
    assert images.nbytes <= held < 1.4 * images.nbytes


@pytest.mark.parametrize(
    ("chosen", "repeats"), [({7: 1}, 2), ({7: 1, 40: 2}, 3), ({7: 1, 40: 9}, 2)]
)
def test_a_selection_among_other_images_or_repeats_is_refused(tmp_path, chosen, repeats):
    path = choose(tmp_path / "s.csv", chosen, repeats=repeats)
    with pytest.raises(DataError) as error:
        read_reconstructions([write(tmp_path / "a.h5", [7, 40])], path)
    assert str(error.value) == (
        f"{path} does not choose among 2 repeats of every image; delete it and run the workflow"
        " again."
    )
