"""Measured voxels by image, against loops over trials."""

import numpy as np
import pytest

from neuraldiffuser import storage
from neuraldiffuser.diffusion.measured_voxels import MeasuredVoxels
from neuraldiffuser.errors import DataError

# Images of trials in the order in which they were shown; 41 was shown once, 12 and 30 twice.
SHOWN = {"training": [41, 7, 12, 7, 30, 12, 7, 30], "test": [90, 8, 90, 8, 90, 8]}
VOXELS = 3


@pytest.fixture
def betas():
    rng = np.random.default_rng(0)
    return {
        split: rng.normal(size=(len(ids), VOXELS)).astype(np.float32)
        for split, ids in SHOWN.items()
    }


@pytest.fixture
def path(tmp_path, betas):
    """voxels/subj01.h5 of one session."""
    tables = ("mean", "std", "test_mean", "test_std")
    arrays = {f"statistics/{name}": np.ones((1, VOXELS)) for name in tables}
    arrays |= {"statistics/session": np.array([1]), "statistics/valid": np.ones((1, VOXELS), bool)}
    arrays |= {"voxel/index": np.arange(VOXELS), "voxel/roi": np.zeros(VOXELS, np.uint8)}
    arrays |= {"voxel/noise_ceiling": np.ones(VOXELS, np.float32)}
    for split, ids in SHOWN.items():
        repeat = [ids[:trial].count(image) for trial, image in enumerate(ids)]
        arrays |= {f"{split}/id": np.array(ids), f"{split}/repeat": np.array(repeat)}
        arrays |= {f"{split}/session": np.ones(len(ids), int), f"{split}/betas": betas[split]}
    attributes = {"subject": "subj01", "missing_sessions": np.array([], int), "dropped_voxels": 0}
    storage.write_arrays(
        tmp_path / "subj01.h5", arrays, attributes | {"volume_shape": np.array([1, 1, VOXELS])}
    )
    return tmp_path / "subj01.h5"


def open_voxels(path, missing_repeats="skipped"):
    return MeasuredVoxels(path, held_out=np.array([41, 12]), missing_repeats=missing_repeats)


def average(betas, split, image, missing_repeats):
    """As MindEye2 does where it pads: two trials count as a, b, a; one as a, a, a."""
    trials = [row for row, shown in zip(betas[split], SHOWN[split], strict=True) if shown == image]
    if missing_repeats == "padded":
        trials = (trials * 3)[:3]
    return np.mean(np.float64(trials), axis=0)


@pytest.mark.parametrize("missing_repeats", ["skipped", "padded"])
@pytest.mark.parametrize(
    ("group", "split", "ids"),
    [("test", "test", [90, 8, 90]), ("validation", "training", [41, 12, 7, 30])],
)
def test_rows_are_the_images_means_in_the_order_asked_for(
    path, betas, group, split, ids, missing_repeats
):
    found = open_voxels(path, missing_repeats).read(group, np.array(ids))
    expected = [average(betas, split, image, missing_repeats) for image in ids]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_the_treatment_of_missing_repeats_matters(path):
    few = [
        open_voxels(path, name).read("validation", np.array([12])) for name in ("skipped", "padded")
    ]
    assert np.abs(few[0] - few[1]).min() > 1e-3


def test_groups_are_the_test_images_and_the_held_out_ones(path):
    file = open_voxels(path)
    assert file.ids("test").tolist() == [8, 90]
    assert file.ids("validation").tolist() == [12, 41]


@pytest.mark.parametrize(
    ("group", "split", "ids"),
    [("test", "test", [8, 41, 7]), ("validation", "training", [41, 90, 8, 8])],
)
def test_an_image_of_the_other_split_is_refused(path, group, split, ids):
    with pytest.raises(DataError) as error:
        open_voxels(path).read(group, np.array(ids))
    first = {"test": 7, "training": 8}[split]
    assert str(error.value) == (
        f"{path} holds no {split} trial of 2 of the images that its voxels are to guide, {first}"
        " among them; decode the subject's embeddings from these voxels again."
    )


def test_responses_that_are_not_finite_are_refused(path):
    import h5py

    with h5py.File(path, "a") as file:
        file["test/betas"][1, 0] = np.nan
    assert np.isfinite(open_voxels(path).read("test", np.array([90]))).all()
    with pytest.raises(DataError, match="test/betas of .* holds 1 non-finite values"):
        open_voxels(path).read("test", np.array([8]))
