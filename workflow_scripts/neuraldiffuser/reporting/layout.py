"""Lays a table's entries out for people: Markdown, LaTeX, and the grid behind the report's HTML."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from neuraldiffuser import words
from neuraldiffuser.reporting.labels import ARROWS, CHOSEN, GROUPS, SCORED, SINGLE
from neuraldiffuser.reporting.published import PAPER
from neuraldiffuser.reporting.tables import MARKS, OURS, PENDING, Table

EMPTY = "\N{EN DASH}"
INSIDE, OUTSIDE = "✓", "✗"
VERDICTS = (
    f"In parentheses the paper's value, and Δ, ours minus the paper's; {INSIDE}: the paper's value "
    f"lies in our interval, {OUTSIDE}: it does not; neither where ours has no interval"
)
OUR_PART = "This experiment"
BOTH_PART = "This experiment; published values in parentheses"
PAPER_PART = "Published values, for context only: other images, other brains, other networks"


@dataclass(frozen=True)
class Cell:
    """One place of a table: a number, its interval, and the paper's number to compare it with.

    Attributes:
        beside: the paper's number.
        difference: our number minus the paper's.
        inside: whether the paper's number lies in our interval; None without an interval.
    """

    number: str = ""
    interval: str = ""
    beside: str = ""
    difference: str = ""
    inside: bool | None = None

    @property
    def compared(self) -> str:
        """The paper's number, how far ours lies from it, and the verdict: ``0.299, Δ +0.010 ✓``."""
        verdict = {True: INSIDE, False: OUTSIDE, None: ""}[self.inside]
        difference = f"Δ {self.difference} {verdict}".rstrip() if self.difference else ""
        return ", ".join(filter(None, (self.beside, difference)))

    @property
    def text(self) -> str:
        """The cell on one line; the comparison with the paper stands in parentheses."""
        beside = f"({self.compared})" if self.compared else ""
        return " ".join(part for part in (self.number, self.interval, beside) if part) or EMPTY


@dataclass(frozen=True)
class Line:
    """A labelled row of cells; ``group`` is the heading under which it stands, or empty."""

    group: str
    label: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Part:
    """A grid with headings; ``groups`` are headings above the columns, or empty texts."""

    title: str
    headings: tuple[str, ...]
    groups: tuple[str, ...]
    lines: tuple[Line, ...]


def lay_out_parts(table: Table, *, comparable: bool) -> list[Part]:
    """The grids of a table: one where ours and the paper's may be compared, else two."""
    entries = table.entries[table.entries["metric"].notna()]
    ours, paper = (entries[entries["origin"] == origin] for origin in (OURS, PAPER))
    if comparable:
        divisions = [(BOTH_PART, pd.concat([paper, ours]))]
    else:
        divisions = [(OUR_PART, ours), (PAPER_PART, paper)]
    return [
        _lay_out_part(
            title,
            chosen,
            metrics_in_rows=table.metrics_in_rows or chosen["row"].nunique() == 1,
            comparable=comparable,
        )
        for title, chosen in divisions
        if len(chosen)
    ]


def list_notes(table: Table) -> list[str]:
    """What a reader must know beside the numbers: what is pending, what was not computed."""
    told = _tell_notes(_list_ours(table))
    noted = set(table.entries["note"])
    marked = [f"{mark} {note}." for note, mark in MARKS.items() if note in noted]
    verdicts = [f"{VERDICTS}."] if table.entries["difference"].notna().any() else []
    return [*list_pending(table), *marked, *verdicts, *told]


def list_pending(table: Table) -> list[str]:
    """Which rows wait for what has not been run."""
    pending = table.entries[table.entries["origin"] == PENDING]
    reasons = pending.groupby("note", sort=False)["row"].agg(list)
    return [f"{'; '.join(rows)}: {reason}." for reason, rows in reasons.items()]


def list_not_computed(table: Table) -> list[str]:
    """Which metrics have no value, and why."""
    ours = _list_ours(table)
    return _tell_notes(ours[ours["value"].isna()])


def _list_ours(table: Table) -> pd.DataFrame:
    return table.entries[(table.entries["origin"] == OURS) & table.entries["metric"].notna()]


def _tell_notes(ours: pd.DataFrame) -> list[str]:
    """The notes of entries that no mark stands for, each once, with the metrics that have it."""
    plain = (
        ours["note"]
        .fillna("")
        .mask(ours["value"].isna() & (ours["note"].fillna("") == ""), "not computed")
    )
    noted = ours.assign(note=plain)[(plain != "") & ~plain.isin(list(MARKS))]
    metrics = noted.groupby("note", sort=False)["label"].unique()
    everything = ours["label"].nunique()
    return [
        f"{'Every metric' if len(names) == everything > 1 else '; '.join(names)}: {note}."
        for note, names in metrics.items()
    ]


def _lay_out_part(
    title: str, entries: pd.DataFrame, *, metrics_in_rows: bool, comparable: bool
) -> Part:
    metrics = entries.drop_duplicates("metric").sort_values(
        "group", key=lambda groups: groups.map(GROUPS.index), kind="stable"
    )
    headings = [_head(row) for row in metrics.itertuples()]
    names, groups = list(metrics["metric"]), list(metrics["group"])
    rows = list(dict.fromkeys(entries["row"]))
    cells = _fill_cells(entries, comparable=comparable)
    if metrics_in_rows:
        lines = [
            Line(group, heading, tuple(cells.get((row, name), Cell()) for row in rows))
            for group, heading, name in zip(groups, headings, names, strict=True)
        ]
        return Part(title, tuple(rows), ("",) * len(rows), tuple(lines))
    lines = [Line("", row, tuple(cells.get((row, name), Cell()) for name in names)) for row in rows]
    return Part(title, tuple(headings), tuple(groups), tuple(lines))


def _head(metric: tuple) -> str:
    percent = "(%)" if metric.unit in words.PERCENT_UNITS else ""
    return " ".join(filter(None, (metric.label, percent, ARROWS[metric.direction])))


def _fill_cells(entries: pd.DataFrame, *, comparable: bool) -> dict[tuple[str, str], Cell]:
    """Cells by row and metric; where they compare, the paper's numbers stand beside ours."""
    cells: dict[tuple[str, str], Cell] = {}
    for entry in entries.itertuples():
        place = (entry.row, entry.metric)
        if words.is_missing(entry.value):
            continue
        if entry.origin == OURS:
            number = words.write_bare(entry.value, unit=entry.unit)
            number += f" {MARKS[entry.note]}" if entry.note in MARKS else ""
            cells[place] = replace(
                cells.get(place, Cell()),
                number=number,
                interval=_write_interval(entry),
                difference=_write_difference(entry),
                inside={"yes": True, "no": False}.get(entry.within),
            )
        else:
            number = words.write_published(entry.value, unit=entry.unit)
            cells[place] = Cell(beside=number) if comparable else Cell(number=number)
    return cells


def _write_interval(entry: tuple) -> str:
    """An interval, or the spread over subjects."""
    if not words.is_missing(entry.spread):
        return f"± {words.write_bare(entry.spread, unit=entry.unit)}"
    if words.is_missing(entry.low) or words.is_missing(entry.high):
        return ""
    return words.write_interval(entry.low, entry.high, unit=entry.unit).removesuffix(" %")


def _write_difference(entry: tuple) -> str:
    if words.is_missing(entry.difference):
        return ""
    return words.write_bare(entry.difference, unit=entry.unit, signed=True)


def to_markdown(table: Table, *, comparable: bool) -> str:
    """The table as GitHub-flavoured Markdown."""
    blocks = [f"## {table.title}", table.caption]
    for part in lay_out_parts(table, comparable=comparable):
        blocks.append(f"**{part.title}**")
        blocks.append("\n".join(_markdown_lines(part)))
    blocks.extend(f"- {_escape_markdown(note)}" for note in list_notes(table))
    return "\n\n".join(blocks) + "\n"


def _markdown_lines(part: Part) -> Iterable[str]:
    yield _markdown_row(["", *part.headings])
    yield _markdown_row(["---", *["---:"] * len(part.headings)])
    for line in part.lines:
        label = f"{line.group}: {line.label}" if line.group else line.label
        yield _markdown_row([label, *(cell.text for cell in line.cells)])


def _markdown_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(_escape_markdown, cells))} |"


def _escape_markdown(text: str) -> str:
    return text.replace("|", "\\|")


LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "κ": r"$\kappa$",
    "η": r"$\eta$",
    "×": r"$\times$",
    words.MINUS: r"$-$",
    SCORED: r"$\dagger$",
    SINGLE: r"$\ddagger$",
    CHOSEN: r"\S{}",
    "±": r"$\pm$",
    "“": "``",
    "”": "''",
    "Δ": r"$\Delta$",
    INSIDE: r"$\checkmark$",
    OUTSIDE: r"$\times$",
    EMPTY: "--",
    "\N{NARROW NO-BREAK SPACE}": r"\,",
}


def escape_latex(text: str) -> str:
    """``text`` as LaTeX prints it: special characters escaped, symbols in math."""
    return "".join(LATEX.get(character, character) for character in text)


def to_latex(table: Table, *, comparable: bool) -> str:
    """The table for LaTeX with the packages amssymb, booktabs and graphicx; one per part."""
    parts = lay_out_parts(table, comparable=comparable)
    notes = [escape_latex(note) for note in list_notes(table)]
    if not parts:
        return "".join(f"% {note}\n" for note in notes)
    return "\n".join(_latex_part(table, part, notes if part is parts[0] else []) for part in parts)


def _latex_part(table: Table, part: Part, notes: list[str]) -> str:
    caption = " ".join([escape_latex(f"{table.title}. {table.caption} {part.title}."), *notes])
    columns = "l" + "r" * len(part.headings)
    body = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{caption}}}",
        r"\resizebox{\linewidth}{!}{%",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        *_latex_groups(part),
        _latex_row(["", *part.headings]),
        r"\midrule",
        *_latex_lines(part),
        r"\bottomrule",
        r"\end{tabular}}",
        r"\end{table}",
    ]
    return "\n".join(body) + "\n"


def _latex_groups(part: Part) -> Iterable[str]:
    """Headings above runs of columns, with rules below them."""
    if not any(part.groups):
        return
    cells, rules, column = [""], [], 2
    for name, count in count_runs(part.groups):
        cells.append(rf"\multicolumn{{{count}}}{{c}}{{{escape_latex(name)}}}")
        rules.append(rf"\cmidrule(lr){{{column}-{column + count - 1}}}")
        column += count
    yield " & ".join(cells) + r" \\"
    yield " ".join(rules)


def _latex_lines(part: Part) -> Iterable[str]:
    previous = ""
    for line in part.lines:
        if line.group and line.group != previous:
            if previous:
                yield r"\addlinespace"
            yield rf"\multicolumn{{{len(part.headings) + 1}}}{{l}}{{\emph{{{line.group}}}}} \\"
        previous = line.group
        yield _latex_row([line.label, *(cell.text for cell in line.cells)])


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(map(escape_latex, cells)) + r" \\"


def count_runs(values: Sequence[str]) -> list[tuple[str, int]]:
    """Runs of equal values: ``a a b`` becomes ``(a, 2), (b, 1)``."""
    runs: list[tuple[str, int]] = []
    for value in values:
        if runs and runs[-1][0] == value:
            runs[-1] = (value, runs[-1][1] + 1)
        else:
            runs.append((value, 1))
    return runs


FORMATS: dict[str, Callable[..., str]] = {".md": to_markdown, ".tex": to_latex}
