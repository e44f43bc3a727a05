import pytest

from neuraldiffuser.config.nsd import Nsd
from neuraldiffuser.errors import TermsError
from neuraldiffuser.nsd.locations import is_remote
from neuraldiffuser.nsd.terms import require_terms

EVERYBODY = sorted(Nsd().sessions)


def test_terms_are_refused_in_one_sentence():
    with pytest.raises(TermsError) as error:
        require_terms(Nsd(), subjects=EVERYBODY, data="data")
    assert str(error.value) == (
        "The NSD data access agreement has not been accepted: agree to it at "
        "https://naturalscenesdataset.org and set nsd.terms_accepted to true, after which about "
        "13 GB of betas (the nsdgeneral voxels alone) and 40 GB of stimuli are fetched into data/ "
        "(paths.data); the miniature (`make demo`) needs none of it."
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"fetch": "whole"}, "298 GB of betas .whole HDF5 sessions"),
        ({"fetch": "whole", "format": "nii.gz"}, "159 GB of betas .whole NIfTI sessions"),
        ({"source": "mindeye2"}, "12 GB of betas .MindEye2's renormalised ones"),
        ({"source": "mindeye2", "bucket": "/mnt/nsd"}, "12 GB of betas"),
        ({"bucket": "https://natural-scenes-dataset.s3.amazonaws.com"}, "13 GB of betas"),
    ],
)
def test_the_sentence_follows_the_configuration(changes, words):
    with pytest.raises(TermsError, match=words):
        require_terms(Nsd(**changes), subjects=EVERYBODY, data="data")


def test_the_sentence_counts_the_subjects_and_names_the_folder():
    with pytest.raises(TermsError, match="about 42 GB .* into /mnt/nsd/"):
        require_terms(Nsd(fetch="whole"), subjects=["subj01"], data="/mnt/nsd")


@pytest.mark.parametrize(
    "changes",
    [
        {"terms_accepted": True},
        {"bucket": "/mnt/nsd"},
        {"source": "local", "bucket": "/mnt/nsd"},
        {"source": "mindeye2", "bucket": "/mnt/nsd", "mindeye2_url": "/mnt/{subject}.hdf5"},
    ],
    ids=str,
)
def test_accepted_terms_and_local_folders_pass(changes):
    require_terms(Nsd(**changes), subjects=["subj01"], data="data")


@pytest.mark.parametrize(
    ("url", "remote"),
    [("s3://b", True), ("https://h/b", True), ("folder/b", False), ("file:///b", False)],
)
def test_what_is_remote(url, remote):
    assert is_remote(url) is remote
