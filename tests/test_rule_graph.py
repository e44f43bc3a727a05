"""The graph in docs/architecture.md shows the rules that there are."""

import importlib.util
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def drawing():
    path = REPOSITORY / "docs" / "draw_rule_graph.py"
    specification = importlib.util.spec_from_file_location("draw_rule_graph", path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


MERMAID = """
flowchart TB
	id0[all]
	id1[use]
	id2["make"]
	style id0 fill:#D96657
	id1 --> id0
	id2 --> id1
	id2 --> id0
"""


def test_edges_are_read_by_rule_name(drawing):
    text = MERMAID.replace('"', "")
    assert drawing.read_edges(text) == {("use", "all"), ("make", "use"), ("make", "all")}


def test_implied_edges_are_left_out(drawing):
    edges = {("a", "b"), ("b", "c"), ("a", "c"), ("a", "d")}
    assert drawing.reduce(edges) == {("a", "b"), ("b", "c"), ("a", "d")}


def test_redrawing_changes_only_the_graph(drawing):
    page = "before\n<!-- rule graph -->\nold\n<!-- end of rule graph -->\nafter\n"
    assert drawing.redraw(page, "new\n") == page.replace("old", "new")


def test_the_page_shows_every_rule_of_an_experiment(drawing):
    page = drawing.PAGE.read_text(encoding="utf-8")
    graph = drawing.BLOCK.search(page)[0]
    shown = set(re.findall(r"^    (\w+)$", graph, re.MULTILINE))
    rules = {name for names in drawing.read_files().values() for name in names}
    trained_apart = {name for name in rules if "mini" in name} - {"generate_mini_world"}
    other_sources = {"fetch_session", "fetch_renormalised_betas"}
    other_encoders = {"convert_gnet"}
    targets = {"fetch_inputs"}
    on_request = {"measure_switch", "collect_fidelity", "fidelity"}
    expected = rules - trained_apart - other_sources - other_encoders - targets - on_request
    assert shown == expected, "run `make graph` and commit docs/architecture.md"
