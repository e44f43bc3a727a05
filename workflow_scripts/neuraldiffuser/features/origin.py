"""How a target was made: what its file says of itself, and every file that was decoded from it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neuraldiffuser import storage
from neuraldiffuser.errors import DataError

ATTRIBUTES = ("settings", "precision", "model")


def copy_origin(path_to_target: Path | str) -> dict[str, Any]:
    """The attributes of a target's file that a file decoded from it passes on."""
    attributes = storage.read_attributes(path_to_target)
    return {name: attributes[name] for name in ATTRIBUTES if name in attributes}


@dataclass(frozen=True)
class Origin:
    """How a target was made.

    Attributes:
        settings: one of the sections of ``targets``, by key.
        digests: SHA-256 of the model's files, by name.
    """

    settings: Mapping[str, Any]
    digests: Mapping[str, str]


def read_origin(path: Path | str) -> Origin:
    """How the target of a file was made; raises DataError if the file does not say."""
    attributes = storage.read_attributes(path)
    if not {"settings", "model"} <= set(attributes):
        raise DataError(
            f"{path} does not say how its target was made; delete it and run the workflow again."
        )
    return Origin(json.loads(attributes["settings"]), json.loads(attributes["model"]))
