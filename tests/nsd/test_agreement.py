"""The voxels stage agrees, image by image, with a naive one that shares no code with it.

Three subjects, as in the miniature: one with NIfTI among its HDF5 files, one whose second session
the bucket does not hold, one of whom fewer sessions are used; each has voxels without data.
"""

import shutil
from pathlib import Path

import h5py
import naive_voxels
import nibabel
import numpy as np
import pytest
from prepare_voxels import prepare_voxels
from tiny_bucket import VERSION, region_paths

from neuraldiffuser.config.mini import WorldSettings
from neuraldiffuser.mini import bucket
from neuraldiffuser.mini.world import World
from neuraldiffuser.nsd import files
from neuraldiffuser.nsd.normalisation import NORMALISATIONS
from neuraldiffuser.nsd.voxels import SPLITS, read_voxels

SESSIONS = 4
# The sessions that exist of those used, and their formats.
USED = {
    "subj01": {1: "hdf5", 2: "nii.gz", 3: "hdf5", 4: "hdf5"},
    "subj02": {1: "hdf5", 3: "hdf5", 4: "hdf5"},
    "subj03": {1: "hdf5", 2: "hdf5", 3: "hdf5"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A bucket with sessions of either format and voxels that are zero in some or all sessions."""
    folder = tmp_path_factory.mktemp("agreement")
    settings = WorldSettings(
        shared_images=12, own_images=28, trials_per_session=30, voxels=(40, 50, 45)
    )
    sessions = dict.fromkeys(USED, SESSIONS)
    bucket.write_bucket(folder, World(settings, tuple(USED), sessions, VERSION))
    for subject in USED:
        spoil_voxels(folder, subject)
    write_nifti(session_path(folder, "subj01", 2, "hdf5"))
    session_path(folder, "subj02", 2, "hdf5").unlink()
    return folder


def session_path(folder, subject, session, extension) -> Path:
    name = files.session_betas(subject, version=VERSION, session=session, file_format=extension)
    return folder / name


def spoil_voxels(folder, subject):
    """Voxels 2, 4 and 7 (from 0) are zero in all sessions, in the first, in all but the third."""
    voxels = naive_voxels.find_voxels(folder, subject)
    for voxel, sessions in {2: (1, 2, 3, 4), 4: (1,), 7: (1, 2, 4)}.items():
        x, y, z = voxels[voxel]
        for session in sessions:
            with h5py.File(session_path(folder, subject, session, "hdf5"), "r+") as file:
                file["betas"][:, z, y, x] = 0


def write_nifti(path):
    with h5py.File(path) as file:
        volumes = file["betas"][()].transpose(3, 2, 1, 0)
    nibabel.save(nibabel.Nifti1Image(volumes, np.eye(4)), str(path).replace("hdf5", "nii.gz"))
    path.unlink()


def prepare(folder, path, subject, *, sessions=None, **changes):
    """The stage; sessions up to the last one used that do not exist are missing."""
    asked = range(1, (sessions or max(USED[subject])) + 1)
    used = [number for number in asked if number in USED[subject]]
    settings = {"normalisation": "session_training", "invalid_voxels": "missing"} | changes
    prepare_voxels(
        paths_to_betas=[
            session_path(folder, subject, number, USED[subject][number]) for number in used
        ],
        paths_to_regions=region_paths(folder, subject),
        path_to_design=folder / files.DESIGN,
        path_to_responses=folder / files.responses(subject),
        path_to_voxels=path,
        subject=subject,
        sessions=used,
        missing_sessions=sorted({*asked} - {*used}),
        **settings,
    )
    return read_voxels(path)


@pytest.fixture(scope="module")
def naive(folder):
    """The trials of each subject as the naive reader finds them."""
    return {
        subject: naive_voxels.read_trials(folder, subject, sessions)
        for subject, sessions in USED.items()
    }


@pytest.mark.parametrize("name", NORMALISATIONS)
@pytest.mark.parametrize("subject", USED)
def test_every_trial_and_average_agrees(folder, naive, tmp_path, subject, name):
    built = prepare(folder, tmp_path / "voxels.h5", subject, normalisation=name)
    expected = naive_voxels.normalise(naive[subject], name)
    shared = {trial.image: trial.shared for trial in naive[subject]}
    assert len(built.training.id) + len(built.test.id) == len(expected)
    for split, is_test in SPLITS.items():
        rows = getattr(built, split)
        assert {shared[image] for image in rows.id.tolist()} == {is_test}
        for row, *key in zip(rows.betas, rows.id, rows.repeat, strict=True):
            known = [0.0 if value is None else value for value in expected[tuple(key)]]
            np.testing.assert_allclose(row, known, rtol=1e-4, atol=1e-5)
        for option, padded in (("skipped", False), ("padded", True)):
            ids, means = rows.averaged(option)
            assert ids.tolist() == sorted({image for image in shared if shared[image] == is_test})
            for image, found in zip(ids.tolist(), means, strict=True):
                known = naive_voxels.average(expected, image, padded=padded)
                np.testing.assert_allclose(found, known, rtol=1e-4, atol=1e-5)


def test_the_subjects_hold_what_the_agreement_is_about(folder, naive, tmp_path):
    """Else it would agree about nothing: images shown less often, values that are missing."""
    built = {subject: prepare(folder, tmp_path / subject, subject) for subject in USED}
    assert [one.missing_sessions for one in built.values()] == [(), (2,), ()]
    for subject, one in built.items():
        counts = np.unique(one.test.id, return_counts=True)[1]
        assert set(counts) == {3} if subject == "subj01" else {1, 2} <= set(counts)
        lost = (~one.statistics.valid).sum(axis=0)
        assert (
            lost[[2, 4, 7]].tolist()
            == {
                "subj01": [4, 1, 3],
                "subj02": [3, 1, 2],
                "subj03": [3, 1, 2],
            }[subject]
        )
        assert any(None in trial.betas for trial in naive[subject])


def test_the_naive_reading_of_other_images_does_not_agree(folder, naive, tmp_path):
    """The control: the same comparison with images exchanged must fail."""
    built = prepare(folder, tmp_path / "voxels.h5", "subj01")
    expected = naive_voxels.normalise(naive["subj01"], "session_training")
    images = np.unique(built.test.id)
    other = dict(zip(images, np.roll(images, 1), strict=True))
    far = [
        np.abs(row[0] - expected[other[image], repeat][0]) > 1e-3
        for row, image, repeat in zip(
            built.test.betas, built.test.id, built.test.repeat, strict=True
        )
    ]
    assert np.mean(far) > 0.95


# --- a planted signal ----------------------------------------------------------------------------


def known_function(images):
    """Stored values that follow from the image alone, in no order of anything."""
    return (np.asarray(images) * 7919 % 1009 - 500).astype(np.int16)


@pytest.fixture(scope="module")
def planted(folder, naive, tmp_path_factory):
    """A copy in which one voxel of subj02 is a known function of the image, and its column."""
    copy = tmp_path_factory.mktemp("planted")
    shutil.copytree(folder, copy, dirs_exist_ok=True)
    column = 11
    x, y, z = naive_voxels.find_voxels(copy, "subj02")[column]
    for session in USED["subj02"]:
        images = [trial.image for trial in naive["subj02"] if trial.session == session]
        with h5py.File(session_path(copy, "subj02", session, "hdf5"), "r+") as file:
            file["betas"][:, z, y, x] = known_function(images)
    return copy, column


@pytest.mark.parametrize("split", SPLITS)
def test_a_planted_signal_survives_unchanged(planted, tmp_path, split):
    built = prepare(planted[0], tmp_path / "v.h5", "subj02", normalisation="none")
    rows = getattr(built, split)
    ids, means = built.averaged(split)
    for images, found in ((rows.id, rows.betas), (ids, means)):
        expected = known_function(images).astype(np.float32) / 300
        np.testing.assert_allclose(found[:, planted[1]], expected, rtol=1e-6)
        shuffled = known_function(np.random.default_rng(0).permutation(images)) / 300
        assert np.abs(found[:, planted[1]] - shuffled).mean() > 0.5


@pytest.mark.parametrize("name", [name for name in NORMALISATIONS if name != "none"])
@pytest.mark.parametrize("split", SPLITS)
def test_a_planted_signal_survives_every_normalisation(planted, tmp_path, split, name):
    """Exactly where one affine map serves all sessions, nearly where each has its own."""
    built = prepare(planted[0], tmp_path / "v.h5", "subj02", normalisation=name)
    ids, means = built.averaged(split)
    found, signal = means[:, planted[1]], known_function(ids).astype(float)
    least = 0.98 if name.startswith("session") else 1 - 1e-6
    assert np.corrcoef(found, signal)[0, 1] > least
    shuffled = np.random.default_rng(1).permutation(signal)
    assert np.corrcoef(found, shuffled)[0, 1] < 0.6


# --- splits by the number of sessions ------------------------------------------------------------


def test_fewer_sessions_leave_fewer_images_and_repeats(folder, tmp_path):
    """As the 37 and the 40 sessions of the papers do: 982 and 1000 test images."""
    built = [prepare(folder, tmp_path / f"{n}.h5", "subj01", sessions=n) for n in (1, 2, 4)]
    images = [len(np.unique(one.test.id)) for one in built]
    assert images[0] < images[1] <= images[2] == 12
    assert [len(one.test.id) + len(one.training.id) for one in built] == [30, 60, 120]
    for fewer, more in zip(built, built[1:], strict=False):
        assert set(fewer.test.id) <= set(more.test.id)
        keys = [
            set(zip(one.test.session, one.test.id, one.test.repeat, strict=True))
            for one in (fewer, more)
        ]
        assert keys[0] < keys[1]
