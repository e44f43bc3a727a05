"""The terms of the data: nothing is fetched over a network before they are accepted."""

from collections.abc import Iterable

from neuraldiffuser.config.nsd import Nsd
from neuraldiffuser.errors import TermsError
from neuraldiffuser.nsd import files

AGREEMENT = "https://naturalscenesdataset.org"
KINDS = {
    "hdf5": "whole HDF5 sessions",
    "nii.gz": "whole NIfTI sessions",
    files.REGION_FORMAT: "the nsdgeneral voxels alone",
    "mindeye2": "MindEye2's renormalised ones",
}


def require_terms(nsd: Nsd, *, subjects: Iterable[str], data: str) -> None:
    """Refuses to fetch from a network before the NSD data access agreement is accepted.

    Args:
        nsd: where the data come from and how much of it.
        subjects: whose betas are fetched.
        data: where they go.

    Raises:
        TermsError: what to accept, where the data goes, how large it is, and what needs none.
    """
    if nsd.terms_accepted or not nsd.is_fetched_from_a_network:
        return
    kind = "mindeye2" if nsd.source == "mindeye2" else nsd.fetched_format
    gigabytes = files.download_gigabytes(nsd.sessions, subjects=subjects, kind=kind)
    raise TermsError(
        f"The NSD data access agreement has not been accepted: agree to it at {AGREEMENT} and set "
        f"nsd.terms_accepted to true, after which about {gigabytes:.0f} GB of betas "
        f"({KINDS[kind]}) and {files.STIMULI_GIGABYTES:.0f} GB of stimuli are fetched into {data}/ "
        "(paths.data); the miniature (`make demo`) needs none of it."
    )
