"""Identity of settings and code: what a stage's result depends on, as text that can be compared."""

import ast
import hashlib
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from neuraldiffuser.errors import ConfigError

SCRIPTS = Path(__file__).parents[1]

# How a job runs and is recorded, not what it computes: a change here reruns nothing.
EXECUTION_MODULES = frozenset({"devices.py", "runtime.py", "provenance.py", "identity.py"})
# What a stage reads of the configuration is in its settings, worked out before it runs. Only the
# report computes with the configuration's own code: which reading it is, and what stands where.
COMPUTING_CONFIGURATION = frozenset({"fidelity.py", "description.py", "report.py"})


def canonical_json(value: Any) -> str:
    """One text for one value: sorted keys, lists for tuples; refuses every other type.

    Raises:
        ConfigError: a value is no JSON value (a set, a path, NaN), so it could not be compared.
    """
    try:
        return json.dumps(value, sort_keys=True, allow_nan=False, separators=(", ", ": "))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"A setting is no JSON value ({error}); use plain values.") from error


@cache
def code_id(stage: str, *modules: str) -> str:
    """sha256 over a stage's script and every project module it imports, directly or not.

    Comments, docstrings, layout and file dates do not count: the syntax trees are hashed.

    Args:
        stage: name of the script.
        modules: what it imports besides by names that its settings hold.
    """
    digest = hashlib.sha256()
    named = [file for name in modules for file in _files_of(name)]
    for path in sorted(_modules_behind(SCRIPTS / f"{stage}.py", *named)):
        digest.update(str(path.relative_to(SCRIPTS)).encode())
        digest.update(_tree_digest(path))
    return digest.hexdigest()


def _modules_behind(*starts: Path) -> set[Path]:
    found, waiting = set(), [*starts]
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
        elif place.with_suffix(".py").is_file() and _computes(place.with_suffix(".py")):
            yield place.with_suffix(".py")


def _computes(path: Path) -> bool:
    if path.parent == SCRIPTS / "neuraldiffuser" / "config":
        return path.name in COMPUTING_CONFIGURATION
    return path.parent.name != "neuraldiffuser" or path.name not in EXECUTION_MODULES
