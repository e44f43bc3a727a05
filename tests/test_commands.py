"""Every command of `neuraldiffuser` has a module, help, and errors of one sentence."""

import os
import subprocess
import sys
from importlib import import_module

import pytest
from workflow import REPOSITORY

from neuraldiffuser import __main__ as command


@pytest.mark.parametrize("name", command.COMMANDS)
def test_a_command_is_a_module_that_says_what_it_is_for(name, capsys):
    module = import_module(f"neuraldiffuser.inspection.{name}")
    assert module.__doc__.startswith(f"``neuraldiffuser {name}``: ")
    assert callable(module.run)
    with pytest.raises(SystemExit, match="0"):
        command.main([name, "--help"])
    assert command.COMMANDS[name] in " ".join(capsys.readouterr().out.split())


def test_what_people_did_wrong_is_told_in_words(tmp_path, capsys):
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text("sead: 3\n")
    assert command.main(["explain", "--configfile", str(overlay)]) == 1
    told = capsys.readouterr()
    assert "unknown key sead; did you mean seed?" in told.err
    assert not told.out


def test_a_reader_that_has_seen_enough_is_no_error():
    """As in ``neuraldiffuser check | head -1``."""
    reading, writing = os.pipe()
    os.close(reading)
    asked = subprocess.run(
        [sys.executable, "-m", "neuraldiffuser", "check"],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY / "workflow_scripts")},
        stdout=writing,
        stderr=subprocess.PIPE,
    )
    os.close(writing)
    assert asked.stderr == b""
