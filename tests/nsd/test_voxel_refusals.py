"""Every bad input is refused with a sentence that names the file, and leaves nothing written."""

import shutil

import h5py
import nibabel
import numpy as np
import pandas as pd
import pytest
import scipy.io
from prepare_voxels import prepare_voxels
from tiny_bucket import VERSION, betas_paths, region_paths

from neuraldiffuser.errors import DataError
from neuraldiffuser.nsd import files, normalisation

SUBJECT = "subj01"


class Case:
    """The files of one subject, to be spoiled."""

    def __init__(self, bucket, folder):
        self.bucket = bucket
        self.folder = folder / "bucket"
        for name in (files.DESIGN, f"nsddata/ppdata/{SUBJECT}", f"nsddata_betas/ppdata/{SUBJECT}"):
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            copy = shutil.copytree if (bucket / name).is_dir() else shutil.copyfile
            copy(bucket / name, self.folder / name)
        self.betas = betas_paths(self.folder, SUBJECT)
        self.regions = region_paths(self.folder, SUBJECT)
        self.design = self.folder / files.DESIGN
        self.responses = self.folder / files.responses(SUBJECT)
        self.output = folder / "results"
        self.output.mkdir()
        self.settings = {
            "sessions": (1, 2, 3),
            "missing_sessions": (),
            "normalisation": "session_training",
            "invalid_voxels": "missing",
        }

    def prepare(self):
        prepare_voxels(
            paths_to_betas=self.betas,
            paths_to_regions=self.regions,
            path_to_design=self.design,
            path_to_responses=self.responses,
            path_to_voxels=self.output / "subj01.h5",
            subject=SUBJECT,
            **self.settings,
        )

    def refusal(self):
        """The sentence; nothing may be left behind."""
        with pytest.raises(DataError) as error:
            self.prepare()
        assert list(self.output.iterdir()) == []
        return str(error.value)

    def write_design(self, **changes):
        matrices = scipy.io.loadmat(self.design)
        matrices = {name: matrices[name] for name in ("masterordering", "subjectim", "sharedix")}
        scipy.io.savemat(self.design, matrices | changes)

    def read_design(self, name):
        return scipy.io.loadmat(self.design)[name].astype(np.int64)

    def write_responses(self, change):
        change(pd.read_csv(self.responses, sep="\t")).to_csv(self.responses, sep="\t", index=False)


@pytest.fixture
def case(tiny_bucket, tmp_path):
    return Case(tiny_bucket, tmp_path)


def test_the_files_are_accepted_before_they_are_spoiled(case):
    case.prepare()
    assert [path.name for path in case.output.iterdir()] == ["subj01.h5"]


# --- betas ---------------------------------------------------------------------------------------


def cut(path):
    path.write_bytes(path.read_bytes()[: -path.stat().st_size // 3])


def test_truncated_hdf5(case):
    cut(case.betas[1])
    assert case.refusal().startswith(f"{case.betas[1]} is truncated")


def test_truncated_nifti(case):
    name = files.session_betas(SUBJECT, version=VERSION, session=1, file_format="nii.gz")
    case.betas[0] = case.folder / name
    cut(case.betas[0])
    assert case.refusal() == (
        f"{case.betas[0]} is truncated or is no NIfTI file; delete it and run again."
    )


def test_betas_of_another_subject(case):
    shutil.copyfile(betas_paths(case.bucket, "subj02")[2], case.betas[2])
    assert case.refusal().startswith(f"{case.betas[2]} holds volumes of shape")


def test_masks_of_another_subject(case):
    case.regions = region_paths(case.bucket, "subj02")
    sentence = case.refusal()
    assert "holds volumes of shape" in sentence
    assert sentence.endswith("they belong to different subjects or spaces.")


def test_one_region_on_another_grid(case):
    case.regions["areas"] = region_paths(case.bucket, "subj02")["areas"]
    shapes = [nibabel.load(case.regions[name]).shape for name in ("nsdgeneral", "areas", "ncsnr")]
    assert case.refusal() == (
        f"{case.regions['nsdgeneral']}, {case.regions['areas']} and {case.regions['ncsnr']} have "
        f"shapes {shapes[0]}, {shapes[1]} and {shapes[2]}; expected one shape: fetch them again."
    )


def test_a_mask_without_voxels(case):
    image = nibabel.load(case.regions["nsdgeneral"])
    empty = np.where(image.get_fdata() == 1, 0, -1).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(empty, image.affine), case.regions["nsdgeneral"])
    assert case.refusal() == (
        f"{case.regions['nsdgeneral']} has no voxel with label 1; fetch it again."
    )


def test_betas_that_are_not_numbers(case):
    with h5py.File(case.betas[0]) as file:
        values = file["betas"][()].astype(np.float32)
    values[3] = np.nan
    with h5py.File(case.betas[0], "w") as file:
        file["betas"] = values
    assert case.refusal().startswith(f"{case.betas[0]} holds 150 non-finite values")


@pytest.mark.parametrize(
    ("value", "said"),
    [(np.inf, "holds 150 non-finite values"), (-0.2, "holds a signal-to-noise ratio below 0;")],
)
def test_impossible_signal_to_noise(case, value, said):
    image = nibabel.load(case.regions["ncsnr"])
    spoiled = np.full(image.shape, value, np.float32)
    nibabel.save(nibabel.Nifti1Image(spoiled, image.affine), case.regions["ncsnr"])
    assert case.refusal().startswith(f"{case.regions['ncsnr']} {said}")


def test_a_session_that_was_not_given(case):
    del case.betas[1]
    assert case.refusal() == "The betas of session 2 were not given; fetch them."


def test_voxels_without_data_where_there_may_be_none(case):
    with h5py.File(case.betas[1], "r+") as file:
        file["betas"][:] = 0
    case.settings["invalid_voxels"] = "refused"
    assert case.refusal() == (
        "150 voxels of subj01 are zero or constant through a whole session, 2 among them; set "
        "voxels.invalid_voxels to missing or dropped."
    )


# --- the design ----------------------------------------------------------------------------------


def test_a_design_with_fewer_trials(case):
    case.write_design(masterordering=case.read_design("masterordering")[:, :80])
    assert case.refusal() == (
        f"{case.responses} lists 120 trials, but {case.design} plans 80 for subj01; the two belong "
        "to different releases, or one has to be fetched again."
    )


def test_a_design_with_more_trials(case):
    ordering = case.read_design("masterordering")
    case.write_design(masterordering=np.insert(ordering, 5, ordering[0, 7] % 40 + 1, axis=1))
    assert case.refusal() == (
        f"{case.responses}: trial 5 shows an image that {case.design} does not plan for subj01 "
        "there; the two belong to different subjects or releases."
    )


@pytest.mark.parametrize(("place", "said"), [(41, "1 to 41"), (0, "0 to 40")])
def test_a_design_that_points_beyond_its_images(case, place, said):
    ordering = case.read_design("masterordering")
    ordering[0, 3] = place
    case.write_design(masterordering=ordering)
    assert case.refusal() == (
        f"{case.design}: masterordering points to images {said}, but subjectim lists 40 of subj01; "
        "delete it and run again."
    )


def test_a_design_that_lists_an_image_twice(case):
    images = case.read_design("subjectim")
    images[0, 5] = images[0, 30]
    case.write_design(subjectim=images)
    assert case.refusal() == (
        f"{case.design}: subjectim lists an image of subj01 twice; delete it and run again."
    )


def test_shared_images_that_the_subject_does_not_see(case):
    shared = case.read_design("sharedix")
    shared[0, :2] = 70_000, 70_001
    case.write_design(sharedix=shared)
    assert case.refusal() == (
        f"{case.design}: 2 of the 12 images of sharedix are not among those of subj01 in "
        "subjectim; delete it and run again."
    )


@pytest.mark.parametrize("split", ["test", "training"])
def test_sessions_without_a_trial_of_one_split(case, split):
    """As if all that session 1 shows were shared, or nothing of it."""
    shown = pd.read_csv(case.responses, sep="\t").query("SESSION == 1")["73KID"]
    own = case.read_design("subjectim")[0]
    shared = np.setdiff1d(own, shown) if split == "test" else np.unique(shown)
    assert len(shared)
    case.write_design(sharedix=shared[None])
    case.settings |= {"sessions": (1,), "normalisation": "session_all"}
    case.betas = case.betas[:1]
    assert case.refusal() == (
        f"{case.responses} leaves no {split} trial in the 1 sessions that are used and exist; "
        "raise the subject's number in nsd.sessions, or leave the subject out."
    )


# --- the responses -------------------------------------------------------------------------------


def test_a_trial_listed_twice(case):
    case.write_responses(lambda table: pd.concat([table, table.iloc[4:5]]))
    assert case.refusal() == f"{case.responses} lists a trial twice; fetch it again."


@pytest.mark.parametrize("value", [2.5, np.nan, "face"])
def test_a_trial_without_a_whole_number(case, value):
    def spoil(table):
        table = table.astype({"73KID": object})
        table.loc[9, "73KID"] = value
        return table

    case.write_responses(spoil)
    assert case.refusal() == (
        f"{case.responses} has a trial that is not told in whole numbers; fetch it again."
    )


def test_an_image_that_the_design_does_not_plan(case):
    case.write_responses(lambda table: table.assign(**{"73KID": table["73KID"] + 1}))
    assert case.refusal().startswith(f"{case.responses}: trial 0 shows an image that {case.design}")


def test_a_session_with_fewer_trials_than_its_betas(case):
    case.write_responses(lambda table: table.iloc[:-3])
    assert case.refusal() == (
        f"{case.betas[2]} holds 40 trials, but the subject's responses.tsv lists 37; fetch the two "
        "again."
    )


# --- anything else -------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", ["design", "responses"])
def test_a_missing_file(case, missing):
    path = getattr(case, missing)
    path.unlink()
    assert case.refusal() == f"{path} is missing; fetch it again."


def test_what_breaks_off_in_the_middle_leaves_nothing(case, monkeypatch):
    def break_off(betas, statistics, *, session, split):
        if session == 3:
            raise OSError("no space left on device")
        return normalisation.normalise(betas, statistics, session=session, split=split)

    monkeypatch.setattr("neuraldiffuser.nsd.voxels.normalise", break_off)
    with pytest.raises(OSError, match="no space left"):
        case.prepare()
    assert list(case.output.iterdir()) == []
