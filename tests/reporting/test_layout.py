import re
from dataclasses import replace
from pathlib import Path

import jinja2
import pandas as pd
import pytest
from reporting.test_tables import make, paper_experiment  # noqa: F401

from neuraldiffuser import words
from neuraldiffuser.reporting import layout, tables


@pytest.fixture(params=sorted(tables.TABLES))
def table(request, world, experiment):
    return make(world, request.param, experiment)


def written_numbers(entries):
    """Every number that may stand in a laid-out table."""
    numbers = set()
    for entry in entries[entries["value"].notna()].itertuples():
        write = words.write_published if entry.origin == "paper" else words.write_number
        ends = [entry.low, entry.high, entry.spread] if entry.origin == "ours" else []
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
    line = {line.label: line for line in part.lines}["guided (NeuralDiffuser)"]
    cell = line.cells[list(part.headings).index("PixCorr ↑")]
    row = table.entries.query(
        "origin == 'ours' and row == 'guided (NeuralDiffuser)' and metric == 'pixcorr'"
    ).iloc[0]
    estimate = words.write_estimate(row["value"], row["low"], row["high"])
    difference = words.write_number(row["value"] - 0.299, signed=True)
    verdict = "✓" if row["low"] <= 0.299 <= row["high"] else "✗"
    assert cell.text == f"{estimate} (0.299, Δ {difference} {verdict})"
    assert line.cells[list(part.headings).index("CLIP (%) ↑")].text == "(95.40)"


COLUMNS = ["origin", "metric", "label", "group", "unit", "direction", "value", "low", "high"]
COLUMNS += ["difference", "within"]
ROWS = [  # inside, outside, without an interval, and what only the paper has
    ("ours", "ssim", "SSIM", "Low level", "index", "higher", 0.318, 0.306, 0.33, 0.0, "yes"),
    ("ours", "clip", "CLIP", "High level", "share identified", "higher", 0.95, 0.94, 0.953, -0.004)
    + ("no",),
    (
        "ours",
        "fid",
        "FID",
        "Image quality",
        "squared distance",
        "lower",
        52.4,
        None,
        None,
        1.98,
        "",
    ),
    ("paper", "ssim", "SSIM", "Low level", "index", "higher", 0.318, None, None, None, ""),
    ("paper", "clip", "CLIP", "High level", "share identified", "higher", 0.954, None, None, None)
    + ("",),
    ("paper", "fid", "FID", "Image quality", "squared distance", "lower", 50.42, None, None, None)
    + ("",),
    (
        "paper",
        "swav",
        "SwAV",
        "High level",
        "1 - correlation",
        "lower",
        0.401,
        None,
        None,
        None,
        "",
    ),
]


@pytest.fixture
def compared():
    """One row of ours beside the paper's."""
    entries = pd.DataFrame(ROWS, columns=COLUMNS).assign(row="guided", n=1000, note="", spread=None)
    rival = entries[entries["origin"] == "paper"].assign(row="rival", value=0.5)
    entries = pd.concat([entries, rival], ignore_index=True)
    return tables.Table("Title", "Caption.", entries, metrics_in_rows=False)


def find_row(text, start):
    [row] = [line for line in text.split("\n") if line.startswith(start)]
    return row


def test_markdown_shows_difference_and_verdict_beside_ours(compared):
    text = layout.to_markdown(compared, comparable=True)
    assert find_row(text, "|  |") == "|  | SSIM ↑ | CLIP (%) ↑ | SwAV ↓ | FID ↓ |"
    assert find_row(text, "| guided") == (
        "| guided | 0.318 [0.306, 0.330] (0.318, Δ 0.000 ✓) "
        "| 95.0 [94.0, 95.3] (95.40, Δ −0.4 ✗) | (0.401) | 52.4 (50.42, Δ +1.980) |"
    )
    assert f"- {layout.VERDICTS}.\n" in text


def test_latex_shows_difference_and_verdict_beside_ours(compared):
    text = layout.to_latex(compared, comparable=True)
    assert find_row(text, "guided") == (
        r"guided & 0.318 [0.306, 0.330] (0.318, $\Delta$ 0.000 $\checkmark$) & "
        r"95.0 [94.0, 95.3] (95.40, $\Delta$ $-$0.4 $\times$) & (0.401) & "
        r"52.4 (50.42, $\Delta$ +1.980) \\"
    )
    assert r"$\Delta$, ours minus the paper's; $\checkmark$: the paper's value lies" in text


def test_the_page_shows_difference_and_verdict_beside_ours(compared):
    page = Path(layout.__file__).with_name("report.html.jinja").read_text().split("<!")[0]
    macros = jinja2.Environment(autoescape=True).from_string(page).module
    [part] = layout.lay_out_parts(compared, comparable=True)
    shown = {**vars(part), "runs": []}
    row = re.sub(r"(?:<[^>]*>)+", "|", macros.grid_html(shown)).replace("\n", "")
    assert "|guided|0.318|[0.306, 0.330]|(0.318, Δ 0.000 ✓)|" in row
    assert "|95.0|[94.0, 95.3]|(95.40, Δ −0.4 ✗)|(0.401)|52.4|(50.42, Δ +1.980)|" in row


def test_a_long_heading_may_break_before_its_bracket_and_shows_no_markup(compared):
    page = Path(layout.__file__).with_name("report.html.jinja").read_text().split("<!")[0]
    macros = jinja2.Environment(autoescape=True).from_string(page).module
    entries = compared.entries.replace({"label": {"CLIP": "Lite(early)"}})
    [part] = layout.lay_out_parts(replace(compared, entries=entries), comparable=True)
    grid = macros.grid_html({**vars(part), "runs": []})
    assert '<th scope="col">Lite\u200b(early) \u200b(%) ↑</th>' in grid


@pytest.mark.parametrize("write", layout.FORMATS.values())
def test_as_context_the_papers_values_stand_apart_without_a_verdict(compared, write):
    alone = compared.entries.assign(difference=None, within="")
    text = write(replace(compared, entries=alone), comparable=False)
    assert not re.findall(r"Δ|Delta|✓|✗|check|times|\(0\.", text)
    assert "0.318 [0.306, 0.330]" in text and "95.40" in text


def test_rows_follow_the_papers_order(world, paper_experiment):  # noqa: F811
    [part] = layout.lay_out_parts(make(world, "table1", paper_experiment), comparable=True)
    labels = [line.label for line in part.lines]
    assert labels[0] == "MindReader"
    assert labels[-4:] == [
        "guided (NeuralDiffuser)",
        "NeuralDiffuser, best of 5 (rule undefined in the paper)",
        "guided, averaged as in the paper",
        "guided, best of 5 by each metric itself",
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
