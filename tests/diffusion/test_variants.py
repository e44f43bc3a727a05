"""Controls get other images' features; the same ones whatever the shard."""

import numpy as np
import pytest

from neuraldiffuser import storage
from neuraldiffuser.config.reconstruction import Variant
from neuraldiffuser.diffusion.embeddings import EmbeddingFile
from neuraldiffuser.diffusion.measured_voxels import MeasuredVoxels
from neuraldiffuser.diffusion.variants import FEATURES, choose_donors, open_guiding, read_features
from neuraldiffuser.errors import DataError

IDS = np.array([2, 5, 9, 14, 30, 77])


@pytest.fixture
def file(tmp_path):
    """Test rows hold their id; held-out rows average to 7."""
    rows = IDS[:, None, None] * np.ones((1, 2, 3), np.float32)
    arrays = {
        "test/id": IDS[::-1],
        "test/embedding": rows[::-1],
        "validation/id": np.array([100, 101]),
        "validation/embedding": np.stack([np.full((2, 3), 6.0), np.full((2, 3), 8.0)]),
    }
    storage.write_arrays(tmp_path / "features.h5", arrays)
    return EmbeddingFile(tmp_path / "features.h5")


@pytest.mark.parametrize("seed", range(20))
def test_donors_are_other_images_and_all_different(seed):
    donors = choose_donors(IDS, seed=seed)
    assert sorted(donors) == sorted(IDS)
    assert (donors != IDS).all()


def test_donors_depend_on_the_seed():
    assert len({tuple(choose_donors(IDS, seed=seed)) for seed in range(20)}) > 10


def test_own_features_are_the_images_own(file):
    assert FEATURES["own"](file, np.array([9, 2]), IDS, 0)[:, 0, 0].tolist() == [9, 2]


def test_another_images_features_do_not_depend_on_the_shard(file):
    whole = FEATURES["another_image"](file, IDS, IDS, 4)[:, 0, 0]
    shards = [FEATURES["another_image"](file, part, IDS, 4)[:, 0, 0] for part in np.split(IDS, 3)]
    assert np.array_equal(whole, choose_donors(IDS, seed=4))
    assert np.array_equal(whole, np.concatenate(shards))


def test_mean_features_are_those_of_held_out_images(file):
    assert np.array_equal(FEATURES["mean"](file, IDS[:4], IDS, 0), np.full((4, 2, 3), 7))


def test_every_choice_of_features_is_registered_and_gives_others(file):
    assert set(Variant.model_fields["features"].annotation.__args__) == set(FEATURES)
    given = {tuple(read(file, IDS, IDS, 0).ravel()) for read in FEATURES.values()}
    assert len(given) == len(FEATURES)


def test_one_image_has_no_other():
    with pytest.raises(DataError) as error:
        choose_donors(IDS[:1], seed=0)
    assert str(error.value) == (
        "Guidance by another image needs at least two test images; leave that variant out."
    )


def test_a_mean_over_nothing_is_refused(tmp_path):
    path = tmp_path / "stimulus.h5"
    arrays = {"validation/id": np.zeros(0, int), "validation/embedding": np.zeros((0, 2, 3))}
    storage.write_arrays(path, arrays)
    with pytest.raises(DataError) as error:
        FEATURES["mean"](EmbeddingFile(path), IDS, IDS, 0)
    assert str(error.value) == (
        f"{path} has no validation images to average; set decoder.validation_images."
    )


def test_voxels_are_read_as_measured_and_all_else_as_decoded(tmp_path):
    files = open_guiding(
        [tmp_path / "voxels" / "subj01.h5", tmp_path / "clip_image_02" / "subj01.h5"],
        held_out=np.array([4, 6]),
        missing_repeats="skipped",
    )
    assert list(files) == ["voxels", "clip_image_02"]
    assert isinstance(files["voxels"], MeasuredVoxels)
    assert files["voxels"].ids("validation").tolist() == [4, 6]
    assert isinstance(files["clip_image_02"], EmbeddingFile)


def test_all_that_guides_an_image_is_of_the_same_donor(file, tmp_path):
    """Also where a file holds images that are not reconstructed."""
    more = np.append(IDS, [1, 6, 80])
    arrays = {"test/id": more, "test/embedding": more[:, None].astype(np.float32)}
    storage.write_arrays(tmp_path / "more.h5", arrays)
    files = {"a": file, "b": EmbeddingFile(tmp_path / "more.h5")}
    read = read_features(files, IDS[1:4], features="another_image", every=IDS, seed=3)
    donors = choose_donors(IDS, seed=3)[1:4]
    assert np.array_equal(read["a"][:, 0, 0], donors)
    assert np.array_equal(read["b"][:, 0], donors)


def test_a_file_without_the_donor_is_refused(file):
    with pytest.raises(DataError, match="features.h5 lacks 1 of the ids asked for, 80 among them"):
        read_features({"a": file}, IDS, features="another_image", every=np.append(IDS, 80), seed=3)
