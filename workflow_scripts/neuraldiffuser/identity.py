"""Identity of settings and code: what a stage's result depends on, as text that can be compared."""

import ast
import hashlib
import json
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from neuraldiffuser.errors import ConfigError

SCRIPTS = Path(__file__).parents[1]

# How a job runs and is recorded, not what it computes: a change here reruns nothing.
EXECUTION_MODULES = frozenset(
    {
        "runtime.py",
        "devices.py",
        "machine.py",
        "exclusion.py",
        "provenance.py",
        "identity.py",
        "contents.py",
    }
)
DIGITS_PER_MODULE = 12
BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")  # of statements, in a statement
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
    """What identifies a stage's code: canonical JSON of a digest per module.

    Its modules are its script and every project module that this imports, directly or not.
    Comments, docstrings, layout and file dates do not count: the syntax trees are hashed.

    Args:
        stage: name of the script.
        modules: what it imports besides by names that its settings hold.
    """
    named = [file for name in modules for file in _files_of(name)]
    return canonical_json(
        {
            path.relative_to(SCRIPTS).as_posix(): _tree_digest(path)
            for path in _modules_behind(SCRIPTS / f"{stage}.py", *named)
        }
    )


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
def _tree_digest(path: Path) -> str:
    text = ast.dump(_without_docstrings(_tree(path)))
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS_PER_MODULE]


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in _statements(tree):
        body = getattr(node, "body", None)
        if body and _is_text(body[0]):
            node.body = body[1:]
    return tree


def _statements(tree: ast.Module) -> Iterator[ast.AST]:
    """The module and its statements, at any depth; what stands inside expressions is left out."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        waiting.extend(part for block in BLOCKS for part in getattr(node, block, ()))


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
        for node in _statements(_tree(path))
        for name in _imported_names(node)
        for file in _files_of(name)
    )


def _imported_names(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


@cache
def _files_of(name: str) -> tuple[Path, ...]:
    return tuple(_find_files(name.split(".")))


def _find_files(parts: Sequence[str]) -> Iterator[Path]:
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
