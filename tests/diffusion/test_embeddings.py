"""Embeddings are joined by id, and refused where they are missing or broken."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from neuraldiffuser import storage
from neuraldiffuser.diffusion.embeddings import (
    EmbeddingFile,
    choose_shard,
    name_targets,
    open_conditions,
)
from neuraldiffuser.errors import ConfigError, DataError

SHAPES = {"vae_latent": (4, 2, 2), "clip_text": (3, 5), "clip_image_02": (2, 7)}
IDS = np.array([3, 8, 20, 71])


def rows(target, ids):
    """Rows that hold their own id."""
    return np.stack([np.full(SHAPES[target], one, np.float32) for one in ids])


@pytest.fixture
def paths(tmp_path):
    """Each target's file holds its images in another order."""
    for number, target in enumerate(SHAPES):
        ids = np.roll(IDS, number)
        arrays = {"test/id": ids, "test/embedding": rows(target, ids)}
        storage.write_arrays(tmp_path / target / "subj01.h5", arrays)
    return [tmp_path / target / "subj01.h5" for target in SHAPES]


def test_rows_are_joined_by_id(paths):
    wanted = np.array([20, 3])
    features = {"clip_image_02": EmbeddingFile(paths[2]).read("test", wanted)}
    read = open_conditions(paths).with_features("test", wanted, features)
    assert np.array_equal(read.ids, wanted)
    assert np.array_equal(read.latents, rows("vae_latent", wanted))
    assert np.array_equal(read.texts, rows("clip_text", wanted))
    assert np.array_equal(read.features["clip_image_02"], rows("clip_image_02", wanted))
    assert read.latents.dtype == np.float32


def test_ids_are_read_in_ascending_order(paths):
    assert all(np.array_equal(EmbeddingFile(path).ids("test"), IDS) for path in paths)


def test_a_missing_image_is_named(paths):
    with pytest.raises(DataError, match="lacks 1 of the ids asked for, 4 among them"):
        open_conditions(paths).with_features("test", np.array([3, 4]), {})


def test_a_missing_group_is_named(paths):
    with pytest.raises(DataError, match="has no array validation/id"):
        open_conditions(paths).with_features("validation", IDS, {})


def test_a_broken_number_is_refused(paths):
    with h5py.File(paths[1], "r+") as file:
        file["test/embedding"][1] = np.nan
    with pytest.raises(DataError, match="test/embedding of .*clip_text/subj01.h5 holds 15"):
        open_conditions(paths).with_features("test", IDS, {})


def test_a_missing_target_is_named():
    with pytest.raises(DataError) as error:
        open_conditions([Path("embeddings/clip_text/subj01.h5")])
    assert str(error.value) == (
        "No embeddings of vae_latent among clip_text; pass embeddings/vae_latent/{subject}.h5."
    )


def test_a_file_belongs_to_the_target_that_its_folder_names():
    path = Path("embeddings/clip_text/subj01.h5")
    assert name_targets([str(path)]) == {"clip_text": path}


@pytest.mark.parametrize("shards", [1, 3, 4])
def test_shards_are_consecutive_and_complete(shards):
    parts = [choose_shard(IDS, shard=k, shards=shards) for k in range(shards)]
    assert np.array_equal(np.concatenate(parts), IDS)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_more_shards_than_images_are_refused():
    with pytest.raises(ConfigError) as error:
        choose_shard(IDS, shard=0, shards=5)
    assert str(error.value) == (
        "Shard 0 of 5 holds none of 4 test images; lower reconstruction.shards."
    )
