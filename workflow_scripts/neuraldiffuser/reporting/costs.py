"""What training and sampling took, read from the sidecars of what they made."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neuraldiffuser import storage
from neuraldiffuser.provenance import sidecar_path


@dataclass(frozen=True)
class Cost:
    """Seconds of whole jobs, what loads models included, and the devices they ran on."""

    seconds: float
    devices: tuple[str, ...]


def add_up(paths: Iterable[Path]) -> Cost:
    """The jobs that made some files; without a sidecar a file's time is not known: NaN."""
    sidecars = [_read_sidecar(Path(path)) for path in paths]
    seconds = sum((made.get("seconds", np.nan) for made in sidecars), start=0.0)
    devices = dict.fromkeys(made["device"] for made in sidecars if "device" in made)
    return Cost(seconds if sidecars else np.nan, tuple(devices))


def _read_sidecar(path: Path) -> dict:
    sidecar = sidecar_path(path)
    return storage.read_json(sidecar) if sidecar.is_file() else {}


def count_images(paths: Iterable[Path]) -> int:
    """How many images shards hold, every repeat counted."""
    count = 0
    for path in paths:
        with storage.open_arrays(path) as file:
            images, repeats = file["images"].shape[:2]
            count += images * repeats
    return count
