"""Draws one figure of the report.

In: what the figure plots. Out: the picture (PNG), the plotted rows (CSV) and the words around it
(JSON: title, caption, alternative text).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from neuraldiffuser import runtime
from neuraldiffuser.config.report import Presentation
from neuraldiffuser.reporting.figures import FIGURES
from neuraldiffuser.reporting.result import write_figure
from neuraldiffuser.reporting.sources import Sources


def make_figure(
    *,
    figure: str,
    paths_to_sources: Mapping[str, Sequence[Path]],
    path_to_image: Path,
    path_to_data: Path,
    path_to_words: Path,
    experiment: Presentation,
) -> None:
    """Writes one figure, its numbers and its words."""
    drawn = FIGURES[figure](Sources(paths_to_sources), experiment)
    write_figure(
        drawn, path_to_image=path_to_image, path_to_data=path_to_data, path_to_words=path_to_words
    )


if __name__ == "__main__":
    with runtime.job(snakemake) as settings:  # noqa: F821
        make_figure(
            figure=snakemake.wildcards.figure,  # noqa: F821
            paths_to_sources={
                kind: [path] if isinstance(path, str) else path
                for kind, path in snakemake.input.items()  # noqa: F821
            },
            path_to_image=snakemake.output.image,  # noqa: F821
            path_to_data=snakemake.output.data,  # noqa: F821
            path_to_words=snakemake.output.words,  # noqa: F821
            **settings,
        )
