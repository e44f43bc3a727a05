"""The sidecar beside every artefact: what made it, from what, with which settings and code."""

import importlib.metadata
import json
import platform
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from neuraldiffuser import contents, machine, storage
from neuraldiffuser.errors import DataError
from neuraldiffuser.identity import canonical_json

REPOSITORY = Path(__file__).parents[2]
SIDECAR_SUFFIX = ".provenance.json"
FOLDER = "folder"  # in place of a digest
LOST = "lost"  # parameter of a rule that names what it read and what must be brought again
# What a sidecar tells of a file, and of its job, for comparison.
FIELDS = {"size", "sha256", "fingerprint", "settings", "parameters", "code", "inputs"}
PACKAGES = ("torch", "diffusers", "transformers", "open_clip_torch", "numpy", "h5py", "snakemake")


def sidecar_path(path: Path) -> Path:
    """Where the provenance of the artefact at ``path`` stands."""
    return path.with_name(path.name + SIDECAR_SUFFIX)


def write_sidecars(
    *,
    outputs: Sequence[Path],
    inputs: Sequence[Path],
    stage: str,
    settings: Mapping[str, Any],
    parameters: Mapping[str, Any],
    code: Mapping[str, str] | str,
    device: str,
    seconds: float,
    measured: Mapping[str, Any],
) -> None:
    """Writes one sidecar per output: what made it, from what, how, where and how long it took.

    Args:
        outputs: the artefacts; folders are left out, a file beside each says what stands in it.
        inputs: what they were made from, in the order of the rule.
        stage: name of the rule.
        settings: the keys that it read.
        parameters: what else its rule told it.
        code: what identifies its code, module by module.
        device: where it computed.
        seconds: how long.
        measured: what only the run could tell, such as how many samples fitted into memory.
    """
    made = {
        "stage": stage,
        "settings": dict(settings),
        "parameters": dict(parameters),
        "code": code,
        "inputs": [[str(path), identify(path)] for path in inputs],
        "software": _software(),
        "commit": _commit(),
        "device": device,
        "machine": machine.describe_device(device),
        "seconds": round(seconds, 3),
        "measured": dict(measured),
    }
    for path in (path for path in outputs if not path.is_dir()):
        described = {
            "size": path.stat().st_size,
            "sha256": contents.digest(path),
            "fingerprint": contents.fingerprint(path),
        }
        storage.write_json(sidecar_path(path), made | described)


def read_sidecar(path: Path) -> dict[str, Any] | None:
    """The provenance of the artefact at ``path``; None if it has none, or none that can be read."""
    sidecar = sidecar_path(path)
    try:
        status = sidecar.stat()
    except OSError:
        return None
    return _read_sidecar(sidecar, status.st_size, status.st_mtime_ns)


@cache
def _read_sidecar(sidecar: Path, _size: int, _changed: int) -> dict[str, Any] | None:
    try:
        told = storage.read_json(sidecar)
    except (DataError, UnicodeDecodeError):
        return None
    return told if isinstance(told, dict) and told.keys() >= FIELDS else None


def is_as_made(path: Path, sidecar: Mapping[str, Any]) -> bool:
    """Whether, at a glance, the file at ``path`` is the one that its sidecar describes."""
    return contents.fingerprint(path) == sidecar["fingerprint"]


def identify(path: Path) -> str:
    """What tells a file from another version of it, without reading a copy of NSD for nothing.

    The sha256 that its sidecar recorded, while the file is the one that was recorded; otherwise
    what its contents tell. What stands in a folder, a file beside it says.
    """
    if path.is_dir():
        return FOLDER
    sidecar = read_sidecar(path)
    if sidecar and is_as_made(path, sidecar):
        return sidecar["sha256"]
    return contents.identify(path)


def read_parameters(parameters: Any) -> dict[str, Any]:
    """A job's ``settings``, ``code`` and other ``parameters``, as its sidecars hold them.

    Args:
        parameters: Snakemake's ``params`` of a job: by name, the canonical JSON of its settings,
            what identifies its code, and what else its rule tells it.
    """
    others = dict(parameters.items())
    others.pop(LOST, None)
    settings, code = others.pop("settings"), others.pop("code")
    return {
        "settings": json.loads(settings),
        "code": json.loads(code) if code.startswith("{") else code,
        "parameters": json.loads(canonical_json(others)),
    }


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
