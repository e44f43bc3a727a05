"""One writer at a time, and no process that outlives the run it works for.

The kernel frees a lock of flock with the process that holds it, however that ends: a killed run
leaves nothing to be unlocked.
"""

import errno
import fcntl
import logging
import os
import platform
import select
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from neuraldiffuser.errors import StorageError

LOCK_FILE = ".run.lock"
LEADER = "NEURALDIFFUSER_LEADER"
UNSUPPORTED = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)

logger = logging.getLogger("neuraldiffuser")

_claims: list[int] = []  # open files, so that their locks last as long as this process


def lock(file: int) -> bool:
    """Takes the lock of an open file.

    Returns:
        Whether its file system knows locks; parallel ones may be mounted without.

    Raises:
        BlockingIOError: another process holds it.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        return False
    return True


def claim(folder: Path) -> None:
    """Makes this process the only one that has claimed ``folder``, until it ends.

    Raises:
        StorageError: another process has claimed it, or it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o666)
        _claims.append(file)
        if not lock(file):
            logger.warning("%s knows no locks; start one run in it at a time.", folder)
        os.truncate(file, 0)
        os.write(file, f"process {os.getpid()} on {platform.node()} since {_now()}".encode())
    except BlockingIOError:
        holder = (folder / LOCK_FILE).read_text(encoding="utf-8")
        raise StorageError(
            f"Another run writes {folder} ({holder}); wait until it has ended, or end it."
        ) from None
    except OSError as error:
        raise StorageError(
            f"{folder} cannot be written ({error.strerror}); mend that, or name another folder "
            "under paths."
        ) from error


def _now() -> str:
    return datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Lets one process in at a time; the others wait. ``path`` is a file of what is done inside."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            lock(file)
        except BlockingIOError:
            logger.warning("a process of an earlier run still does this; waiting until it ends")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def lead() -> None:
    """Makes this process the leader of those that are started from it from now on."""
    os.environ[LEADER] = f"{platform.node()} {os.getpid()}"


def follow() -> None:
    """Has the kernel's end of this process's leader end this process too, at once.

    A killed process cannot end the ones that it started; they would go on and write what those of
    the next run write. Nothing happens without a leader on this machine, or where the system
    cannot watch one (``alone`` then makes the next run wait).
    """
    host, _, number = os.environ.get(LEADER, "").rpartition(" ")
    if host != platform.node() or int(number) == os.getpid():
        return
    try:
        leader = os.pidfd_open(int(number))
    except ProcessLookupError:
        os.kill(os.getpid(), signal.SIGKILL)
    except (AttributeError, OSError):
        return
    threading.Thread(target=_end_with, args=(leader,), daemon=True).start()


def _end_with(leader: int) -> None:
    select.select([leader], [], [])
    os.kill(os.getpid(), signal.SIGKILL)
