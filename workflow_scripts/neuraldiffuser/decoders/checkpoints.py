"""What a training carries from step to step, on disk, so that it goes on after a kill."""

import hashlib
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from neuraldiffuser import runtime, storage
from neuraldiffuser.decoders.history import History

LEAST_SECONDS_BETWEEN = 120.0
SHARE_OF_TIME = 0.05  # at most, spent on writing checkpoints


@dataclass
class Checkpoint:
    """One file that holds all parts of a training and the history of its losses.

    Attributes:
        path: of the file.
        identity: digest of what the training starts from; a file of another training is not used.
        parts: everything with a state, by name.
        least_seconds: between two checkpoints.
    """

    path: Path
    identity: str
    parts: dict[str, Any]
    least_seconds: float = LEAST_SECONDS_BETWEEN
    _due: float = field(init=False)

    def __post_init__(self) -> None:
        self._due = time.monotonic() + self.least_seconds

    def is_due(self) -> bool:
        """Whether enough time has passed since the last one."""
        return time.monotonic() >= self._due

    def save(self, history: History) -> None:
        """Writes all parts atomically; the next one is due when writing costs little in between."""
        started = time.monotonic()
        content = {name: part.state_dict() for name, part in self.parts.items()}
        content |= {"identity": self.identity, "history": history.state_dict()}
        with storage.replace_atomically(self.path) as temporary, temporary.open("wb") as file:
            torch.save(content, file)
        ended = time.monotonic()
        self._due = ended + max(self.least_seconds, (ended - started) / SHARE_OF_TIME)

    def load(self) -> History:
        """Restores all parts; returns an empty history where there is nothing to go on from."""
        content = read_checkpoint(self.path)
        if content.get("identity") != self.identity:
            return History()
        for name, part in self.parts.items():
            part.load_state_dict(content[name])
        history = History(**content["history"])
        runtime.logger.info("resuming after step %d", len(history))
        return history


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint, or nothing where there is none that can be read."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        return {}
    except Exception as error:  # torch has no error class of its own for damaged files
        runtime.logger.warning("%s cannot be read (%s): training starts anew", path, error)
        return {}


def digest(description: str, tensors: list[torch.Tensor]) -> str:
    """SHA-256 of a text and of tensors' bytes."""
    found = hashlib.sha256(description.encode())
    for tensor in tensors:
        found.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return found.hexdigest()
