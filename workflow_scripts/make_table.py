"""Lays one of the paper's tables out in this experiment's numbers.

In: the summary, retrieval and the paper's own tables. Out: every entry as CSV, and the table as
Markdown and LaTeX.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from neuraldiffuser import runtime, storage
from neuraldiffuser.config.report import Presentation
from neuraldiffuser.reporting import layout, tables
from neuraldiffuser.reporting.sources import Sources


def make_table(
    *,
    table: str,
    paths_to_sources: Mapping[str, Sequence[Path]],
    path_to_paper: Path,
    path_to_entries: Path,
    experiment: Presentation,
) -> None:
    """Writes the table's entries as CSV, and beside them Markdown (.md) and LaTeX (.tex)."""
    made = tables.make_table(
        table, sources=Sources(paths_to_sources), experiment=experiment, paper=path_to_paper
    )
    storage.write_table(path_to_entries, made.entries)
    for ending, write in layout.FORMATS.items():
        text = write(made, comparable=experiment.comparable)
        storage.write_bytes(Path(path_to_entries).with_suffix(ending), text.encode())


if __name__ == "__main__":
    with runtime.job(snakemake) as settings:  # noqa: F821
        make_table(
            table=snakemake.wildcards.table,  # noqa: F821
            paths_to_sources={
                kind: [path] if isinstance(path, str) else path
                for kind, path in snakemake.input.items()  # noqa: F821
                if kind != "paper"
            },
            path_to_paper=Path(snakemake.input.paper[0]).parent,  # noqa: F821
            path_to_entries=snakemake.output.entries,  # noqa: F821
            **settings,
        )
