"""Room on the disk: asked for beforehand where it can be known, told in one sentence if it ends."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from neuraldiffuser.errors import FetchError


def require_space(path: Path, needed: int, *, source: str) -> None:
    """Raises FetchError if fewer than ``needed`` bytes are free where ``path`` goes."""
    folder = next(folder for folder in path.absolute().parents if folder.is_dir())
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise FetchError(
            f"{source} needs {needed / 1e9:.3g} GB, and {free / 1e9:.3g} GB are free in "
            f"{path.parent}; make room there, or choose another folder."
        )


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Makes the folder of ``path``; tells in one sentence what keeps the disk from taking more."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else error
        raise FetchError(
            f"{path} could not be written ({reason}); make room for it and run again."
        ) from error
