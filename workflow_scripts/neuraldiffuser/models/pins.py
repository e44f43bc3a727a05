"""Pins: what a file of a model must be, compared with what it is. Imports nothing heavy."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from neuraldiffuser import contents
from neuraldiffuser.config.models import PinnedFile
from neuraldiffuser.errors import DataError

# What transformers and diffusers prefer, or add, to the files that every model of a kind has.
READ_WHERE_THERE = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "*.index.json",
)


def require_pinned(path: Path, found: Mapping[str, Any], pin: PinnedFile, *, key: str) -> None:
    """Raises DataError where a file is not the pinned one, naming both."""
    expected = pin.model_dump(exclude_none=True)
    if not expected.items() <= found.items():
        raise DataError(
            f"{path} is {_write(found)}, but {key} says {_write(expected)}; put the right one "
            "there (or delete it if it was fetched), or, if this is the file you want, write "
            "there what it is."
        )


def look(path: Path | str) -> str:
    """What tells, at a glance, that a file is another one: its fingerprint; "": no file."""
    return contents.fingerprint(path) if Path(path).is_file() else ""


def is_unchanged(path: Path | str, seen: Mapping[str, str] | None) -> bool:
    """Whether a file looks as it did when it got its receipt, be it at another place."""
    return seen is not None and look(path) == seen["look"]


def read_seen(path_to_receipt: Path) -> dict[str, str] | None:
    """What is kept beside a receipt: the ``look`` of its file."""
    path = path_to_receipt.with_suffix(".seen")
    return json.loads(path.read_text()) if path.is_file() else None


def require_known(path: Path, path_to_receipt: Path, pin: PinnedFile, *, key: str) -> None:
    """Raises DataError where a file that is as it was when it was checked is not the pinned one.

    Pins are no reason to check a file again, and need be none: its receipt tells what it is.
    """
    seen = read_seen(path_to_receipt)
    if path_to_receipt.is_file() and is_unchanged(path, seen):
        require_pinned(path, json.loads(path_to_receipt.read_text()), pin, key=key)


def require_listed(path: Path, file: str, files: Iterable[str], *, key: str) -> None:
    """Raises DataError where loaders would also read what lies beside a file but is not listed.

    Args:
        path: the file.
        file: its path in the model's folder.
        files: all files of the model that are listed.
        key: where in the configuration they are.
    """
    for pattern in READ_WHERE_THERE:
        for other in sorted(path.parent.glob(pattern)):
            name = str(PurePosixPath(file).with_name(other.name))
            if name not in files:
                raise DataError(
                    f"{other} would be read, but {key} does not list it; list it ({name}: {{}}), "
                    "or move it away."
                )


def _write(pin: Mapping[str, Any]) -> str:
    """A pin as YAML has it."""
    return "{" + ", ".join(f"{key}: {pin[key]}" for key in ("size", "sha256") if key in pin) + "}"
