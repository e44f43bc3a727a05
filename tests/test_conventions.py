"""The habits that keep the workflow readable and its reruns exact, checked by machine.

A failure's text says why the habit exists and how to mend what broke it.
"""

import ast
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from neuraldiffuser.config.stages import STAGES

REPOSITORY = Path(__file__).parents[1]
SCRIPTS = REPOSITORY / "workflow_scripts"
SCRIPT_FILES = sorted(SCRIPTS.glob("*.py"))
SOURCES = sorted(SCRIPTS.rglob("*.py"))
RULE = re.compile(r"^rule (\w+):\n((?:(?:[ \t]+.*)?\n)+)", re.MULTILINE)
DIRECTIVES = {"output", "log", "benchmark", "conda", "threads", "resources", "params", "message"}

# In which data flow through the library's sub-packages.
STAGE_ORDER = ("nsd", "features", "decoders", "encoding", "diffusion", "evaluation", "reporting")

# What they bring is checked against its source, so no change of code fetches it again.
VERIFIED_ON_ARRIVAL = {
    "fetch_file",
    "fetch_session",
    "fetch_region_betas",
    "fetch_renormalised_betas",
    "fetch_captions",
    "fetch_model",
}


@cache
def rules() -> dict[str, str]:
    """The body of every rule that runs a script, by name."""
    found = {}
    for path in sorted((REPOSITORY / "rules").glob("*.smk")):
        found.update(dict(RULE.findall(path.read_text() + "\n")))
    return {name: body for name, body in found.items() if "script:" in body}


def main_guard(tree: ast.Module) -> ast.If:
    """The closing ``if __name__ == "__main__"`` of a script."""
    return tree.body[-1]


def stage_function(tree: ast.Module, stage: str) -> ast.FunctionDef:
    """The function that is named like the script."""
    named = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == stage]
    assert named, f"workflow_scripts/{stage}.py needs a function {stage}: the rule's pure function."
    return named[0]


def test_there_are_rules():
    assert len(rules()) >= 15


@pytest.mark.parametrize("name", sorted(rules()))
def test_rule_script_log_and_benchmark_share_one_name(name):
    body = rules()[name]
    why = "one name leads from the rule to its script, its log and its benchmark"
    assert f"/workflow_scripts/{name}.py" in body, why
    assert f"<results>/logs/{name}" in body, why
    assert f"<results>/benchmarks/{name}" in body, why
    assert (SCRIPTS / f"{name}.py").is_file(), why


@pytest.mark.parametrize("name", sorted(rules()))
def test_rule_has_every_directive(name):
    present = re.findall(r"^    (\w+):", rules()[name], re.MULTILINE)
    assert set(present) >= DIRECTIVES, "without these a rule cannot be followed or rerun"


@pytest.mark.parametrize("name", sorted(rules()))
def test_memory_and_time_grow_with_attempts(name):
    memory = re.search(r"mem_mb=growing\(.+\),", rules()[name])
    time = re.search(r"runtime=(growing\(\d+\)|CONFIG\.runtime\.decoder_minutes),", rules()[name])
    assert memory and time, "a job that was killed for want of either would be killed again"


@pytest.mark.parametrize("name", sorted(rules()))
def test_settings_and_code_are_those_of_the_rule(name):
    settings = f'settings("{name}")' in rules()[name]
    named = re.search(rf'code=(code_id|get_code)\("{name}"', rules()[name])
    code = named or name in VERIFIED_ON_ARRIVAL
    assert settings and code, "another stage's settings or code would miss reruns"


@pytest.mark.parametrize("path", SCRIPT_FILES, ids=lambda path: path.stem)
def test_script_belongs_to_a_rule(path):
    assert path.stem in rules(), "a script without a rule is dead code: remove it or add its rule"


@pytest.mark.parametrize("path", SCRIPT_FILES, ids=lambda path: path.stem)
def test_only_the_adapter_knows_snakemake(path):
    tree = ast.parse(path.read_text())
    inside = set(ast.walk(main_guard(tree)))
    outside = [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and node.id == "snakemake" and node not in inside
    ]
    assert not outside, "the function must run and be tested without Snakemake"
    assert "snakemake.config" not in path.read_text(), "what is read there never causes a rerun"


@pytest.mark.parametrize("path", SCRIPT_FILES, ids=lambda path: path.stem)
def test_declared_settings_are_the_arguments_that_the_adapter_leaves_open(path):
    tree, stage = ast.parse(path.read_text()), path.stem
    arguments = {argument.arg for argument in stage_function(tree, stage).args.kwonlyargs}
    calls = [
        node
        for node in ast.walk(main_guard(tree))
        if isinstance(node, ast.Call)
        and stage in {getattr(part, "id", "") for part in (node.func, *node.args)}  # or launched
    ]
    assert calls
    given = {keyword.arg for call in calls for keyword in call.keywords if keyword.arg}
    assert set(STAGES[stage]) == arguments - given, (
        "a key declared but not read reruns for nothing; one read but not declared is stale"
    )


@pytest.mark.parametrize("stage", STAGE_ORDER)
def test_a_stage_of_the_library_imports_no_later_one(stage):
    later = "|".join(STAGE_ORDER[STAGE_ORDER.index(stage) + 1 :]) or "nothing"
    found = {
        str(path.relative_to(SCRIPTS)): names
        for path in sorted((SCRIPTS / "neuraldiffuser" / stage).rglob("*.py"))
        if (names := re.findall(rf"\bneuraldiffuser\.(?:{later})\b", path.read_text()))
    }
    assert not found, "data flow one way: move what both need to the earlier stage"


def test_no_stage_imports_what_inspects_it():
    found = [
        str(path.relative_to(SCRIPTS))
        for path in SOURCES
        if re.search(r"\bneuraldiffuser\.inspection\b", path.read_text())
        and path.parent.name != "inspection"
        and path.name != "__main__.py"
    ]
    assert not found, "how jobs are explained must never be a reason to run them again"


def test_what_only_lays_out_results_loads_no_network_library():
    """Many short jobs do, each in a process of its own; torch alone takes seconds."""
    scripts = "make_table make_figure make_gallery write_gallery write_report derive_findings"
    program = (
        "import importlib, sys\n"
        f"for script in {scripts.split()}: importlib.import_module(script)\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run(
        [sys.executable, "-c", program], env=os.environ | {"PYTHONPATH": str(SCRIPTS)}, check=True
    )


def test_the_documented_order_of_stages_is_this_one():
    order = ", ".join(f"`{stage}`" for stage in STAGE_ORDER)
    assert order in (REPOSITORY / "docs" / "architecture.md").read_text()


def test_every_stage_has_a_rule():
    assert set(STAGES) == set(rules()), "config/stages.py and rules/ must name the same stages"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(SCRIPTS)))
def test_nothing_is_loaded_unsafely(path):
    text = path.read_text()
    for unsafe in ("pickle.load", "weights_only=False", "yaml.load(", "allow_pickle=True"):
        assert unsafe not in text, "weights and tables come from strangers: load data, never code"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(SCRIPTS)))
def test_a_sentence_glued_from_pieces_has_its_spaces(path):
    glued = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Raise) and node.exc is not None:
            glued += re.findall(r"[a-z,;][.:,;][A-Za-z]{2,}\b(?! \()", ast.unparse(node.exc))
    assert not [text for text in glued if "." not in text], "a blank is missing between literals"
