import pytest

from neuraldiffuser.errors import FetchError, MissingObjectError
from neuraldiffuser.nsd.sessions import explain_absence

ADDRESS = "s3://natural-scenes-dataset/betas_session07.hdf5"


def test_an_absent_session_says_how_to_do_without_it():
    with pytest.raises(FetchError) as error, explain_absence(ADDRESS):
        raise MissingObjectError("gone")
    assert str(error.value) == (
        f"{ADDRESS} does not exist; check nsd.bucket, or list the session in "
        "nsd.missing_sessions to do without it."
    )


def test_another_failure_stays_what_it_is():
    with pytest.raises(FetchError, match="unreachable"), explain_absence(ADDRESS):
        raise FetchError("unreachable")
