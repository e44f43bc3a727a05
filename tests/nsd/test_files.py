"""Paths against those that public code for NSD downloads."""

import pytest

from neuraldiffuser.config.nsd import Nsd
from neuraldiffuser.errors import DataError
from neuraldiffuser.nsd import files

BETAS = "nsddata_betas/ppdata/subj05/func1pt8mm/betas_fithrf_GLMdenoise_RR"


def test_paths_are_those_of_the_bucket():
    version = Nsd().betas
    assert files.session_betas("subj05", version=version, session=7, file_format="hdf5") == (
        f"{BETAS}/betas_session07.hdf5"
    )
    assert files.signal_to_noise("subj05", version=version) == f"{BETAS}/ncsnr.nii.gz"
    assert files.region_mask("subj05", name="nsdgeneral") == (
        "nsddata/ppdata/subj05/func1pt8mm/roi/nsdgeneral.nii.gz"
    )
    assert files.mean_volume("subj05") == "nsddata/ppdata/subj05/func1pt8mm/mean.nii.gz"
    assert files.responses("subj05") == "nsddata/ppdata/subj05/behav/responses.tsv"
    assert files.DESIGN == "nsddata/experiments/nsd/nsd_expdesign.mat"
    assert files.STIMULI == "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5"


@pytest.mark.parametrize("file_format", ["hdf5", "nii.gz", files.REGION_FORMAT])
@pytest.mark.parametrize("session", [1, 12, 40])
def test_session_number_inverts_the_name(session, file_format):
    path = files.session_betas("subj01", version="b", session=session, file_format=file_format)
    assert files.session_number(path) == session


def test_other_names_have_no_session():
    with pytest.raises(DataError, match="not named like the betas of a session"):
        files.session_number("meanbeta.nii.gz")


def test_all_of_nsd_is_about_three_hundred_gigabytes():
    sessions = Nsd().sessions
    assert sum(sessions.values()) == 284
    size = files.download_gigabytes(sessions, subjects=sessions, kind="hdf5")
    assert size == pytest.approx(298, abs=1)
    assert files.download_gigabytes(sessions, subjects=["subj04"], kind="nii.gz") < 20
    assert 10 < files.download_gigabytes(sessions, subjects=sessions, kind=files.REGION_FORMAT) < 30


def test_no_object_is_listed_twice():
    names = files.generated_objects(
        ["subj01", "subj02"], sessions={"subj01": 2, "subj02": 3}, version="b"
    )
    assert len(names) == len(set(names)) == 4 + 2 * 6 + 5 + 1
