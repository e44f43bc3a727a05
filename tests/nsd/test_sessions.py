"""A session that the bucket does not hold leaves a mark, or ends the job with one sentence."""

import pytest

from neuraldiffuser.errors import FetchError, MissingObjectError
from neuraldiffuser.nsd import betas
from neuraldiffuser.nsd.sessions import mark_if_absent

ADDRESS = "s3://natural-scenes-dataset/betas_session07.hdf5"


def fetch_absent(path, *, missing_sessions):
    with mark_if_absent(path, address=ADDRESS, missing_sessions=missing_sessions):
        raise MissingObjectError("gone")


def test_a_skipped_session_leaves_a_mark(tmp_path):
    path = tmp_path / "betas_session07.hdf5"
    fetch_absent(path, missing_sessions="skip")
    assert betas.is_absent(path)
    assert ADDRESS in path.read_text()


def test_a_session_that_must_exist_is_named(tmp_path):
    path = tmp_path / "betas_session07.hdf5"
    with pytest.raises(FetchError) as error:
        fetch_absent(path, missing_sessions="refuse")
    assert str(error.value) == (
        f"{ADDRESS} does not exist; lower the subject's number in nsd.sessions, or set "
        "nsd.missing_sessions to skip to do without betas_session07.hdf5."
    )
    assert not path.exists()


def test_another_failure_marks_nothing(tmp_path):
    path = tmp_path / "betas_session07.hdf5"
    with (
        pytest.raises(FetchError, match="unreachable"),
        mark_if_absent(path, address=ADDRESS, missing_sessions="skip"),
    ):
        raise FetchError("unreachable")
    assert not path.exists()
