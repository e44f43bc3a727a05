"""Pins: what a file of a model must be, compared with what it is. Imports nothing heavy."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neuraldiffuser.config.models import PinnedFile
from neuraldiffuser.errors import DataError


def require_pinned(path: Path, found: Mapping[str, Any], pin: PinnedFile, *, key: str) -> None:
    """Raises DataError where a file is not the pinned one, naming both."""
    expected = pin.model_dump(exclude_none=True)
    if not expected.items() <= found.items():
        raise DataError(
            f"{path} is {_write(found)}, but {key} says {_write(expected)}; put the right one "
            "there (or delete it if it was fetched), or, if this is the file you want, write "
            "there what it is."
        )


def require_known(path: Path, path_to_receipt: Path, pin: PinnedFile, *, key: str) -> None:
    """Raises DataError where a file that is as it was when it was checked is not the pinned one.

    Pins are no reason to check a file again, and need be none: its receipt tells what it is.
    """
    if not (path.is_file() and path_to_receipt.is_file()):
        return
    if path.stat().st_mtime <= path_to_receipt.stat().st_mtime:
        require_pinned(path, json.loads(path_to_receipt.read_text()), pin, key=key)


def _write(pin: Mapping[str, Any]) -> str:
    """A pin as YAML has it."""
    return "{" + ", ".join(f"{key}: {pin[key]}" for key in ("size", "sha256") if key in pin) + "}"
