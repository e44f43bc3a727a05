"""Equal settings have one text; code counts by what it does, not by how or when it was typed."""

from pathlib import Path

import pytest

from neuraldiffuser import identity
from neuraldiffuser.errors import ConfigError


@pytest.fixture
def scripts(tmp_path, monkeypatch):
    package = tmp_path / "neuraldiffuser"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "runtime.py").write_text("LIMIT = 1\n")
    (package / "helper.py").write_text("VALUE = 1\n")
    (package / "unused.py").write_text("VALUE = 1\n")
    (package / "config").mkdir()
    for name in ("__init__", "section", "fidelity"):
        (package / "config" / f"{name}.py").write_text("VALUE = 1\n")
    (tmp_path / "stage.py").write_text(
        "from neuraldiffuser import runtime\nfrom neuraldiffuser.helper import VALUE\n"
        "from neuraldiffuser.config import fidelity, section\n"
    )
    monkeypatch.setattr(identity, "SCRIPTS", tmp_path)
    return tmp_path


def code_id(*modules: str) -> str:
    for function in vars(identity).values():
        if hasattr(function, "cache_clear"):
            function.cache_clear()
    return identity.code_id("stage", *modules)


def test_canonical_json_ignores_order_and_sequence_type():
    assert identity.canonical_json({"b": (1, 2), "a": 0.1}) == '{"a": 0.1, "b": [1, 2]}'


@pytest.mark.parametrize("value", [{1, 2}, Path("x"), float("nan")])
def test_canonical_json_refuses_what_cannot_be_compared(value):
    with pytest.raises(ConfigError, match="^A setting is no JSON value"):
        identity.canonical_json({"key": value})


@pytest.mark.parametrize(
    ("file", "text", "changes"),
    [
        ("neuraldiffuser/helper.py", "VALUE = 2\n", True),
        ("neuraldiffuser/helper.py", '"""Words."""\n# a comment\nVALUE   =  1\n', False),
        ("neuraldiffuser/unused.py", "VALUE = 2\n", False),
        ("neuraldiffuser/runtime.py", "LIMIT = 2\n", False),
        ("neuraldiffuser/config/section.py", "VALUE = 2\n", False),
        ("neuraldiffuser/config/fidelity.py", "VALUE = 2\n", True),
        ("stage.py", "from neuraldiffuser.helper import VALUE\nVALUE += 1\n", True),
    ],
)
def test_only_what_a_stage_really_runs_changes_its_code(scripts, file, text, changes):
    before = code_id()
    (scripts / file).write_text(text)
    assert (code_id() != before) is changes


def test_a_module_named_by_settings_counts_where_it_is_named(scripts):
    named, alone = code_id("neuraldiffuser.unused"), code_id()
    assert named != alone
    (scripts / "neuraldiffuser/unused.py").write_text("VALUE = 2\n")
    assert code_id("neuraldiffuser.unused") != named
    assert code_id() == alone
