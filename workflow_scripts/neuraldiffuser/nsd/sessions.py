"""A session that the bucket does not hold: what a person can do about it."""

from collections.abc import Iterator
from contextlib import contextmanager

from neuraldiffuser.errors import FetchError, MissingObjectError


@contextmanager
def explain_absence(address: str) -> Iterator[None]:
    """Surrounds the fetching of the session at ``address``.

    Raises:
        FetchError: it does not exist.
    """
    try:
        yield
    except MissingObjectError as error:
        raise FetchError(
            f"{address} does not exist; check nsd.bucket, or list the session in "
            "nsd.missing_sessions to do without it."
        ) from error
