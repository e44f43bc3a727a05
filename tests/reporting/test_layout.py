import re
from dataclasses import replace

import pandas as pd
import pytest
from reporting.test_tables import make, paper_experiment  # noqa: F401

from neuraldiffuser.reporting import layout, tables, words


@pytest.fixture(params=sorted(tables.TABLES))
def table(request, world, experiment):
    return make(world, request.param, experiment)


def written_numbers(entries):
    """Every number that may stand in a laid-out table."""
    numbers = set()
    for entry in entries[entries["value"].notna()].itertuples():
        write = words.write_published if entry.origin == "paper" else words.write_number
        ends = [entry.low, entry.high] if entry.origin == "ours" else []
        numbers.add(write(entry.value, unit=entry.unit).removesuffix(" %"))
        numbers |= {
            words.write_number(end, unit=entry.unit).removesuffix(" %")
            for end in ends
            if not words.is_missing(end)
        }
    return numbers


def test_no_number_stands_in_a_table_that_is_not_in_its_entries(table):
    allowed = written_numbers(table.entries)
    for part in layout.lay_out_parts(table, comparable=False):
        for line in part.lines:
            for cell in line.cells:
                assert set(re.findall(r"[−+]?\d+\.\d+", cell.text)) <= allowed


def test_every_measured_entry_stands_in_the_table_once(table):
    ours = table.entries[(table.entries["origin"] == "ours") & table.entries["value"].notna()]
    parts = layout.lay_out_parts(table, comparable=False)
    cells = [c for p in parts if p.title == layout.OUR_PART for line in p.lines for c in line.cells]
    assert sum(bool(cell.number) for cell in cells) == len(ours)


def test_ours_and_the_papers_meet_in_one_cell_where_they_compare(world, paper_experiment):  # noqa: F811
    table = make(world, "table1", paper_experiment)
    [part] = layout.lay_out_parts(table, comparable=True)
    line = {line.label: line for line in part.lines}["NeuralDiffuser"]
    cell = line.cells[list(part.headings).index("PixCorr ↑")]
    assert re.fullmatch(r"0\.\d{3} \[0\.\d{3}, 0\.\d{3}\] \(0\.299\)", cell.text)
    assert line.cells[list(part.headings).index("CLIP (%) ↑")].text == "(95.40)"


def test_rows_follow_the_papers_order(world, paper_experiment):  # noqa: F811
    [part] = layout.lay_out_parts(make(world, "table1", paper_experiment), comparable=True)
    labels = [line.label for line in part.lines]
    assert labels[0] == "MindReader"
    assert labels[-2:] == [
        "NeuralDiffuser",
        "NeuralDiffuser, best of 5 (rule undefined in the paper)",
    ]


def test_pending_and_uncomputed_values_are_named_below(world, experiment):
    table = make(world, "table2", experiment)
    missing = pd.DataFrame(
        [
            {
                "origin": "ours",
                "row": "κ 0",
                "metric": "fid",
                "label": "FID",
                "note": "too few images",
            }
        ]
    )
    entries = pd.concat([table.entries, missing], ignore_index=True)
    notes = layout.list_notes(replace(table, entries=entries))
    assert any("mean feature" in note and "pending" in note for note in notes)
    assert "FID: too few images." in notes


@pytest.mark.parametrize("comparable", [False, True])
def test_latex_is_balanced_and_every_row_has_its_columns(table, comparable):
    text = layout.to_latex(table, comparable=comparable)
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}")
    assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")
    for block in text.split(r"\begin{tabular}")[1:]:
        columns = len(re.match(r"\{(l?r*)\}", block)[1])
        rows = [
            row for row in block.split("\n") if row.endswith(r"\\") and "multicolumn" not in row
        ]
        assert rows
        assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {columns - 1}


def test_latex_escapes_what_it_would_interpret():
    assert layout.escape_latex("a_b & 5 % {x} κ↑") == r"a\_b \& 5 \% \{x\} $\kappa$$\uparrow$"
    assert layout.escape_latex("\\") == r"\textbackslash{}"


def test_markdown_rows_have_the_same_number_of_columns(table):
    text = layout.to_markdown(table, comparable=False)
    for block in text.split("\n\n"):
        widths = {len(re.findall(r"(?<!\\)\|", row)) for row in block.split("\n") if "|" in row}
        assert len(widths) <= 1


def test_runs_of_equal_headings_are_counted():
    assert layout.count_runs(["a", "a", "b", "a"]) == [("a", 2), ("b", 1), ("a", 1)]
