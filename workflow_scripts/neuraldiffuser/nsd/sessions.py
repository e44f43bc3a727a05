"""What becomes of a session that the bucket does not hold."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from neuraldiffuser import runtime
from neuraldiffuser.errors import FetchError, MissingObjectError
from neuraldiffuser.nsd import betas


@contextmanager
def mark_if_absent(path: Path, *, address: str, missing_sessions: str) -> Iterator[None]:
    """Surrounds the fetching of a session; where it does not exist, does what the option says.

    Args:
        path: where the session goes, or the mark that there is none.
        address: where it should lie.
        missing_sessions: a name in ``MISSING_SESSIONS``.

    Raises:
        FetchError: the session does not exist and must.
    """
    try:
        yield
    except MissingObjectError:
        MISSING_SESSIONS[missing_sessions](path, address)


def skip(path: Path, address: str) -> None:
    """Leaves a mark in the session's place, which later stages skip and tell of."""
    runtime.logger.warning("%s does not exist: it is skipped (nsd.missing_sessions).", address)
    betas.mark_absent(path, address)


def refuse(path: Path, address: str) -> None:
    """Ends the job; nothing is written."""
    raise FetchError(
        f"{address} does not exist; lower the subject's number in nsd.sessions, or set "
        f"nsd.missing_sessions to skip to do without {path.name}."
    )


MISSING_SESSIONS: dict[str, Callable[[Path, str], None]] = {"skip": skip, "refuse": refuse}
