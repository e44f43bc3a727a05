"""What becomes of a session that the bucket does not hold."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from neuraldiffuser import runtime
from neuraldiffuser.errors import FetchError, MissingObjectError
from neuraldiffuser.nsd import betas


@contextmanager
def mark_if_absent(path: Path, *, missing_sessions: str) -> Iterator[None]:
    """Surrounds the fetching of a session; where it does not exist, does what the option says.

    Args:
        path: where the session goes, or the mark that there is none.
        missing_sessions: a name in ``MISSING_SESSIONS``.

    Raises:
        FetchError: the session does not exist and must.
    """
    try:
        yield
    except MissingObjectError as error:
        MISSING_SESSIONS[missing_sessions](path, error)


def skip(path: Path, error: MissingObjectError) -> None:
    """Leaves a mark in the session's place, which later stages skip and tell of."""
    runtime.logger.warning("%s It is skipped (nsd.missing_sessions).", error)
    betas.mark_absent(path, str(error))


def refuse(path: Path, error: MissingObjectError) -> None:
    """Ends the job; nothing is written."""
    raise FetchError(
        f"{str(error).rstrip('.')}; lower the subject's number in nsd.sessions or set "
        f"nsd.missing_sessions to skip to do without {path.name}."
    ) from error


MISSING_SESSIONS: dict[str, Callable[[Path, MissingObjectError], None]] = {
    "skip": skip,
    "refuse": refuse,
}
