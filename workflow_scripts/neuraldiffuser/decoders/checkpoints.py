"""What a training carries from step to step, on disk, so that it goes on after a kill."""

import hashlib
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import torch

from neuraldiffuser import runtime, storage

LEAST_SECONDS_BETWEEN = 120.0
SECONDS_BEFORE_DEADLINE = 120.0  # at least, kept for the last one
SHARE_OF_TIME = 0.05  # at most, spent on writing checkpoints
VALUES_AT_ONCE = 1 << 26


@dataclass
class Checkpoint:
    """One file that holds all parts of a training and how far it has come.

    Attributes:
        path: of the file.
        identity: digest of what the training starts from; a file of another training is not used.
        parts: everything with a state, by name.
        least_seconds: between two checkpoints.
        seconds: that writing the last one took.
    """

    path: Path
    identity: str
    parts: dict[str, Any]
    least_seconds: float = LEAST_SECONDS_BETWEEN
    seconds: float = 0.0
    _due: float = field(init=False)

    def __post_init__(self) -> None:
        self._due = time.monotonic() + self.least_seconds

    def is_last(self, seconds: float = 0.0) -> bool:
        """Whether the job's time does not suffice for ``seconds`` more of training and another."""
        needed = max(SECONDS_BEFORE_DEADLINE, 2 * self.seconds)
        return runtime.seconds_left() < needed + seconds

    def is_due(self) -> bool:
        """Whether enough time has passed since the last one."""
        return time.monotonic() >= self._due

    def save(self, history: dict[str, Any]) -> None:
        """Writes all parts atomically; the next one is due when writing costs little in between.

        Args:
            history: of the training so far, in plain values and tensors.
        """
        started = time.monotonic()
        content = {name: part.state_dict() for name, part in self.parts.items()}
        content |= {"identity": self.identity, "history": history}
        with storage.replace_atomically(self.path) as temporary, temporary.open("wb") as file:
            torch.save(content, file)
        self.seconds = time.monotonic() - started
        self._due = time.monotonic() + max(self.least_seconds, self.seconds / SHARE_OF_TIME)

    def load(self) -> dict[str, Any]:
        """Restores all parts; returns the history, empty where there is nothing to go on from."""
        content = read_checkpoint(self.path)
        if content.get("identity") != self.identity:
            return {}
        for name, part in self.parts.items():
            part.load_state_dict(content[name])
        return content["history"]


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint; nothing where there is none, or a truncated one, which is kept.

    Whatever else keeps it from being read is raised: another time it might be.
    """
    if not path.exists():
        return {}
    if not is_zipfile(path):
        damaged = path.with_name(f"{path.name}.damaged")
        path.replace(damaged)
        runtime.logger.warning("%s is damaged, kept as %s: training starts anew", path, damaged)
        return {}
    return torch.load(path, map_location="cpu", weights_only=True, mmap=True)


def digest(description: str, tensors: list[torch.Tensor]) -> str:
    """SHA-256 of a text and of tensors' bytes, of which few are copied at once."""
    found = hashlib.sha256(description.encode())
    for tensor in tensors:
        for part in tensor.detach().reshape(-1).split(VALUES_AT_ONCE):
            found.update(part.cpu().contiguous().view(torch.uint8).numpy())
    return found.hexdigest()
