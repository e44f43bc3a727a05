"""The generated bucket looks like NSD's: paths, layouts, types, units and joins."""

import dataclasses
import hashlib
import json
import zipfile

import h5py
import nibabel
import numpy as np
import pandas as pd
import pytest
import scipy.io
from generate_mini_world import generate_mini_world
from tiny_bucket import SUBJECTS, VERSION, betas_paths, region_paths, tiny_world

from neuraldiffuser.errors import ConfigError
from neuraldiffuser.mini import scenes, world
from neuraldiffuser.nsd import design, files, rois
from neuraldiffuser.nsd.betas import UNITS_PER_PERCENT, read_session


def regions(bucket, subject):
    paths = region_paths(bucket, subject)
    return {name: rois.read_volume(path) for name, path in paths.items()}


def digests(folder):
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in paths
    }


def test_the_bucket_holds_exactly_the_listed_files(tiny_bucket):
    listed = files.generated_objects(SUBJECTS, sessions=tiny_world().sessions, version=VERSION)
    assert set(digests(tiny_bucket)) == set(listed)


def test_the_script_writes_the_same_bytes_again(tiny_bucket, tmp_path):
    plan = tiny_world()
    generate_mini_world(
        folder=str(tmp_path / "again"),
        world=plan.settings,
        sessions=plan.sessions,
        subjects=["subj02"],
        pretraining_subjects=["subj01", "subj02"],
        betas=VERSION,
    )
    assert digests(tmp_path / "again") == digests(tiny_bucket)


def test_another_seed_gives_other_brains_and_scenes(tiny_bucket, tmp_path):
    plan = tiny_world()
    generate_mini_world(
        folder=str(tmp_path),
        world=plan.settings.model_copy(update={"seed": 8}),
        sessions=plan.sessions,
        subjects=[],
        pretraining_subjects=SUBJECTS,
        betas=VERSION,
    )
    before, after = digests(tiny_bucket), digests(tmp_path)
    assert [name for name in before if before[name] == after[name]] == []


def test_betas_are_int16_with_one_voxel_per_chunk(tiny_bucket):
    for subject in SUBJECTS:
        shape = regions(tiny_bucket, subject)["nsdgeneral"].shape
        assert len(set(shape)) == 3
        with h5py.File(betas_paths(tiny_bucket, subject)[0]) as file:
            betas = file["betas"]
            assert (betas.shape, betas.dtype) == ((40, *shape[::-1]), np.int16)
            assert (betas.chunks, betas.compression) == ((40, 1, 1, 1), None)


def test_hdf5_and_nifti_hold_the_same_betas(tiny_bucket):
    hdf5 = betas_paths(tiny_bucket, "subj01")[0]
    nifti = hdf5.with_name(hdf5.name.replace("hdf5", "nii.gz"))
    image = nibabel.load(nifti)
    assert image.get_data_dtype() == np.int16
    np.testing.assert_allclose(image.header.get_zooms()[:3], 1.8)
    with h5py.File(hdf5) as file:
        np.testing.assert_array_equal(np.asarray(image.dataobj), file["betas"][()].T)
    mask = regions(tiny_bucket, "subj01")["nsdgeneral"]
    index = rois.nsdgeneral_index(mask)
    rows = [read_session(path, index=index, volume_shape=mask.shape) for path in (hdf5, nifti)]
    np.testing.assert_array_equal(*rows)


def test_betas_look_like_percent_signal_change(tiny_bucket):
    mask = regions(tiny_bucket, "subj01")["nsdgeneral"]
    index = rois.nsdgeneral_index(mask)
    path = betas_paths(tiny_bucket, "subj01")[0]
    rows = read_session(path, index=index, volume_shape=mask.shape) / UNITS_PER_PERCENT
    assert 0.5 < np.median(rows.std(axis=0)) < 3
    assert np.abs(rows).max() < 30


def test_voxels_outside_the_brain_are_zero(tiny_bucket):
    outside = regions(tiny_bucket, "subj02")["nsdgeneral"] == -1
    assert outside.any()
    with h5py.File(betas_paths(tiny_bucket, "subj02")[1]) as file:
        betas = file["betas"][()].T
    assert not betas[outside].any()
    assert (betas[~outside] != 0).mean() > 0.95


def test_every_subject_has_voxels_that_are_lost_in_one_session(tiny_bucket):
    for subject in SUBJECTS:
        mask = regions(tiny_bucket, subject)["nsdgeneral"]
        index = rois.nsdgeneral_index(mask)
        lost = [
            (read_session(path, index=index, volume_shape=mask.shape) == 0).all(axis=0).sum()
            for path in betas_paths(tiny_bucket, subject)
        ]
        assert 1 <= sum(lost) <= 3


def test_masks_have_the_labels_of_nsd(tiny_bucket):
    for subject, count in zip(SUBJECTS, (150, 190), strict=True):
        found = regions(tiny_bucket, subject)
        assert set(np.unique(found["nsdgeneral"])) == {-1, 0, 1}
        assert (found["nsdgeneral"] == 1).sum() == count
        assert set(np.unique(found["areas"])) == set(range(-1, 8))
        stray = (found["areas"] > 0) & (found["nsdgeneral"] != 1)
        assert stray.any(), "areas must be cut with nsdgeneral to be right"


def test_the_mean_volume_shows_the_brain_on_the_grid_of_the_masks(tiny_bucket):
    for subject in SUBJECTS:
        mask = nibabel.load(region_paths(tiny_bucket, subject)["nsdgeneral"])
        mean = nibabel.load(tiny_bucket / files.mean_volume(subject))
        np.testing.assert_array_equal(mean.affine, mask.affine)
        brain, values = np.asarray(mask.dataobj) != -1, np.asarray(mean.dataobj)
        assert values[brain].mean() > 3 * values[~brain].mean()
        assert values[brain].std() > 50, "a picture needs structure to place regions in"


def test_sessions_drift(tiny_bucket):
    mask = regions(tiny_bucket, "subj02")["nsdgeneral"]
    index = rois.nsdgeneral_index(mask)
    sessions = [
        read_session(path, index=index, volume_shape=mask.shape)
        for path in betas_paths(tiny_bucket, "subj02")
    ]
    means = np.stack([session.mean(axis=0) for session in sessions])
    typical = np.median([session.std(axis=0) for session in sessions])
    assert np.median(np.ptp(means, axis=0)) > 0.2 * typical


def test_design_matches_responses_and_pictures(tiny_bucket):
    tables = [
        design.join_trials(
            path_to_design=tiny_bucket / files.DESIGN,
            path_to_responses=tiny_bucket / files.responses(subject),
            subject=subject,
        )
        for subject in SUBJECTS
    ]
    for table in tables:
        assert len(table) == 120
        assert {tuple(repeats) for _, repeats in table.groupby("id")["repeat"]} == {(0, 1, 2)}
        assert table.loc[table["shared"], "id"].nunique() == 12
    first, second = (set(table.loc[table["shared"], "id"]) for table in tables)
    assert first == second
    own = [set(table.loc[~table["shared"], "id"]) for table in tables]
    assert not own[0] & own[1] and not own[0] & first


def test_matlab_design_has_nsds_shapes(tiny_bucket):
    content = scipy.io.loadmat(tiny_bucket / files.DESIGN)
    assert content["masterordering"].shape == (1, 120)
    assert content["subjectim"].shape == (8, 40)
    assert content["sharedix"].shape == (1, 12)
    np.testing.assert_array_equal(content["subjectim"][:, :12] - content["sharedix"], 0)


def test_stimulus_information_tells_trials_and_coco_pictures(tiny_bucket):
    table = pd.read_csv(tiny_bucket / files.STIMULUS_INFORMATION, index_col=0)
    assert table["nsdId"].tolist() == list(range(68))
    assert table["cocoId"].is_unique and not table["cocoId"].is_monotonic_increasing
    assert table["shared1000"].sum() == 12
    shown = table.loc[table["subject2"], ["subject2_rep0", "subject2_rep1", "subject2_rep2"]]
    assert sorted(shown.to_numpy().ravel()) == list(range(1, 121))
    joined = design.join_trials(
        path_to_design=tiny_bucket / files.DESIGN,
        path_to_responses=tiny_bucket / files.responses("subj02"),
        subject="subj02",
    )
    for number, trials in shown.iterrows():
        assert joined["id"].to_numpy()[trials.to_numpy() - 1].tolist() == [number] * 3


def test_pictures_are_the_scenes_of_their_ids(tiny_bucket):
    with h5py.File(tiny_bucket / files.STIMULI) as file:
        pictures = file["imgBrick"]
        assert (pictures.shape, pictures.dtype) == ((68, 64, 64, 3), np.uint8)
        scene = scenes.draw_scene(seed=tiny_world().settings.seed, scene=41)
        np.testing.assert_array_equal(pictures[41], scene.image)


def test_captions_have_cocos_form(tiny_bucket):
    with zipfile.ZipFile(tiny_bucket / files.CAPTIONS_ARCHIVE) as archive:
        assert archive.namelist() == [name.removeprefix("captions/") for name in files.CAPTIONS]
        parts = [json.loads(archive.read(name))["annotations"] for name in archive.namelist()]
    entries = [entry for part in parts for entry in part]
    assert len({entry["id"] for entry in entries}) == len(entries) == 5 * 68
    assert all(parts), "both splits must have pictures"


def test_ground_truth_ceilings_are_nsds(tiny_bucket):
    for subject in SUBJECTS:
        with h5py.File(tiny_bucket / files.ground_truth(subject)) as file:
            assert file["tuning/noise_ceiling"][()].mean() == pytest.approx(33, abs=1.5)
            assert file["signal"].shape == (40, tiny_world().voxels_of(subject))


@pytest.mark.parametrize("change", [{"own_images": 29}, {"trials_per_session": 30}])
def test_sessions_that_do_not_hold_the_pictures_are_refused(change):
    plan = tiny_world()
    wrong = dataclasses.replace(plan, settings=plan.settings.model_copy(update=change))
    with pytest.raises(ConfigError, match=r"nsd.sessions.subj01 is 3, but 12\d trials"):
        world.require_whole_design(wrong)
