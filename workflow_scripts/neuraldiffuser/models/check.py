"""Whether a model's file is the one that the zoo describes, and can be read safely.

A format that may run code when it is loaded is refused: weights come from strangers.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

from neuraldiffuser import runtime
from neuraldiffuser.config.models import PinnedFile
from neuraldiffuser.errors import DataError
from neuraldiffuser.models.pins import require_pinned

RESTRICTED = "gnet"  # the loader whose pickle no one but a restricted unpickler ever opens


def check_file(path: Path, pin: PinnedFile, *, loader: str, key: str) -> dict[str, Any]:
    """A file's size and sha256, once it has been checked.

    Args:
        path: the file.
        pin: what it must be, as far as that is known.
        loader: of its model.
        key: where in the configuration the pin stands, for errors.

    Raises:
        DataError: it is missing, not the pinned one, or could run code.
    """
    if not path.is_file():
        raise DataError(f"{path} is missing; put it there, or let it be fetched.")
    found = {"size": path.stat().st_size, "sha256": digest(path)}
    require_pinned(path, found, pin, key=key)
    if loader != RESTRICTED:
        require_data(path)
    return found


def digest(path: Path) -> str:
    """sha256 of a file, with a progress line where it takes long."""
    hasher = hashlib.sha256()
    for block in runtime.read_blocks(path, description=f"checks {path.name}"):
        hasher.update(block)
    return hasher.hexdigest()


def require_data(path: Path) -> None:
    """Raises DataError unless a file holds tensors or text alone, in a format that cannot act."""
    if path.suffix not in READERS:
        raise DataError(
            f"{path} is of no format that is safe to load; use one of {', '.join(READERS)}."
        )
    try:
        READERS[path.suffix](path)
    except Exception as error:
        raise DataError(
            f"{path} is truncated, not what its name says, or holds more than data "
            f"({type(error).__name__}); put the file of its publisher there."
        ) from error


def read_header(path: Path) -> None:
    """Opens safetensors."""
    from safetensors import safe_open

    with safe_open(str(path), framework="numpy") as file:
        file.keys()


def read_json(path: Path) -> None:
    """Parses JSON."""
    json.loads(path.read_text(encoding="utf-8"))


def read_text(path: Path) -> None:
    """Decodes text."""
    path.read_text(encoding="utf-8")


def read_state_dict(path: Path) -> None:
    """Loads what torch stored, or maps it: tensors by name, and nothing that acts."""
    import torch

    stored = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zipfile(path))
    if not isinstance(stored, Mapping):
        raise TypeError


READERS: dict[str, Callable[[Path], None]] = {
    ".safetensors": read_header,
    ".json": read_json,
    ".txt": read_text,
    ".pth": read_state_dict,
    ".pt": read_state_dict,
    ".bin": read_state_dict,
    ".tar": read_state_dict,  # SwAV's name for it
}
