"""The sidecar beside every artefact: what made it, from what, with which settings and code."""

import hashlib
import importlib.metadata
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from neuraldiffuser import storage

REPOSITORY = Path(__file__).parents[2]
SIDECAR_SUFFIX = ".provenance.json"
LARGEST_TO_DIGEST = 1 << 26  # bytes; a tenth of a second
PACKAGES = ("torch", "diffusers", "transformers", "open_clip_torch", "numpy", "h5py", "snakemake")


def digest_file(path: Path) -> str:
    """sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sidecar_path(path: Path) -> Path:
    """Where the provenance of the artefact at ``path`` stands."""
    return path.with_name(path.name + SIDECAR_SUFFIX)


def write_sidecars(
    *,
    outputs: list[Path],
    inputs: list[Path],
    stage: str,
    settings: dict[str, Any],
    code: str,
    device: str,
    seconds: float,
    measured: Mapping[str, Any],
) -> None:
    """Writes one sidecar per output: what made it, from what, how, where and how long it took.

    Args:
        outputs: the artefacts; folders are left out, a file beside each says what stands in it.
        inputs: what they were made from; folders are left out.
        stage: name of the rule.
        settings: the keys that it read.
        code: its identity.
        device: where it computed.
        seconds: how long.
        measured: what only the run could tell, such as how many samples fitted into memory.
    """
    made = {
        "stage": stage,
        "settings": settings,
        "code": code,
        "inputs": {str(path): identify(path) for path in inputs if path.is_file()},
        "software": _software(),
        "commit": _commit(),
        "device": device,
        "seconds": round(seconds, 3),
        "measured": dict(measured),
    }
    for path in (path for path in outputs if not path.is_dir()):
        described = {"size": path.stat().st_size, "sha256": digest_file(path)}
        storage.write_json(sidecar_path(path), made | described)


def identify(path: Path) -> str:
    """What tells a file from another version of it, without reading a copy of NSD for nothing.

    The sha256 that its own sidecar recorded, or that of a small file; of a large one that the
    workflow did not make, its size and time of change.
    """
    sidecar, status = sidecar_path(path), path.stat()
    if sidecar.is_file():
        return storage.read_json(sidecar)["sha256"]
    if status.st_size <= LARGEST_TO_DIGEST:
        return digest_file(path)
    changed = datetime.fromtimestamp(status.st_mtime, UTC).isoformat(timespec="seconds")
    return f"{status.st_size} bytes, changed {changed}"


@cache
def _software() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return versions


@cache
def _commit() -> str:
    """The repository's commit, "unknown" outside a checkout."""
    try:
        answer = subprocess.run(
            ["git", "-C", str(REPOSITORY), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return answer.stdout.strip()
