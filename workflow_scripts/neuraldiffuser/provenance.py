"""Identity of code and settings, and the sidecar that stands beside every artefact."""

import ast
import hashlib
import importlib.metadata
import json
import platform
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from neuraldiffuser import storage
from neuraldiffuser.errors import ConfigError

SCRIPTS = Path(__file__).parents[1]
SIDECAR_SUFFIX = ".provenance.json"
PACKAGES = ("torch", "diffusers", "transformers", "open_clip_torch", "numpy", "h5py", "snakemake")


def canonical_json(value: Any) -> str:
    """One text for one value: sorted keys, lists for tuples; refuses every other type.

    Raises:
        ConfigError: a value is no JSON value (a set, a path, NaN), so it could not be compared.
    """
    try:
        return json.dumps(value, sort_keys=True, allow_nan=False, separators=(", ", ": "))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"A setting cannot be written as JSON ({error}); use plain values.") from (
            error
        )


@cache
def code_id(stage: str) -> str:
    """sha256 over a stage's script and every project module it imports, directly or not.

    Comments, docstrings, layout and file dates do not count: the syntax trees are hashed.
    """
    digest = hashlib.sha256()
    for path in sorted(_modules_behind(SCRIPTS / f"{stage}.py")):
        digest.update(str(path.relative_to(SCRIPTS)).encode())
        digest.update(_tree_digest(path))
    return digest.hexdigest()


def _modules_behind(script: Path) -> set[Path]:
    found, waiting = set(), [script]
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting.extend(_imported_files(path))
    return found


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


@cache
def _tree_digest(path: Path) -> bytes:
    return hashlib.sha256(ast.dump(_without_docstrings(_tree(path))).encode()).digest()


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and _is_text(body[0]):
            node.body = body[1:]
    return tree


def _is_text(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


@cache
def _imported_files(path: Path) -> tuple[Path, ...]:
    """Project files that ``path`` imports, the packages around them included."""
    return tuple(
        file
        for node in ast.walk(_tree(path))
        for name in _imported_names(node)
        for file in _files_of(name)
    )


def _imported_names(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _files_of(name: str) -> Iterator[Path]:
    parts = name.split(".")
    for length in range(1, len(parts) + 1):
        place = SCRIPTS.joinpath(*parts[:length])
        if (place / "__init__.py").is_file():
            yield place / "__init__.py"
        elif place.with_suffix(".py").is_file():
            yield place.with_suffix(".py")


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
) -> None:
    """Writes one sidecar per output: what made it, from what, how, where and how long it took."""
    made = {
        "stage": stage,
        "settings": settings,
        "code": code,
        "inputs": {str(path): _known_digest(path) for path in inputs if path.is_file()},
        "software": _software(),
        "commit": _commit(),
        "device": device,
        "seconds": round(seconds, 3),
    }
    for path in outputs:
        described = {"size": path.stat().st_size, "sha256": digest_file(path)}
        storage.write_json(sidecar_path(path), made | described)


def _known_digest(path: Path) -> str:
    """The digest its own sidecar recorded for a file, or a fresh one where it has none."""
    sidecar = sidecar_path(path)
    return storage.read_json(sidecar)["sha256"] if sidecar.is_file() else digest_file(path)


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
            ["git", "-C", str(SCRIPTS), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return answer.stdout.strip()
