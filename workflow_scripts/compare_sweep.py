"""Compares variants along the sweep of guidance scale and strength, image by image.

In: values per image of every variant and subject. Out: one table of paired differences, empty where
no sweep was run.
"""

from pathlib import Path

from neuraldiffuser import runtime, storage
from neuraldiffuser.config.evaluation import BootstrapSettings, Conventions, Judge
from neuraldiffuser.config.reconstruction import Variant
from neuraldiffuser.evaluation.long_form import average_per_image, read_by_run
from neuraldiffuser.evaluation.metrics import choose_names, metrics_of
from neuraldiffuser.evaluation.summary import choose_conventions
from neuraldiffuser.evaluation.sweep import compare_lines, find_lines


def compare_sweep(
    *,
    path_to_values: list[Path],
    path_to_sweep: Path,
    judges: tuple[Judge, ...],
    conventions: Conventions,
    variants: dict[str, Variant],
    bootstrap: BootstrapSettings,
) -> None:
    """Writes the differences along the lines over scales and over strengths."""
    metrics, names = metrics_of(judges), choose_names(judges, conventions)
    tables = {
        key: choose_conventions(average_per_image(found), names)
        for key, found in read_by_run(path_to_values).items()
    }
    values = {
        key: table[[name for name in metrics if name in table]] for key, table in tables.items()
    }
    lines = find_lines(variants, (name for name, _ in values))
    table = compare_lines(values, lines=lines, metrics=metrics, bootstrap=bootstrap)
    storage.write_table(path_to_sweep, table)


if __name__ == "__main__":
    with runtime.job(snakemake) as settings:  # noqa: F821
        compare_sweep(
            path_to_values=snakemake.input.images,  # noqa: F821
            path_to_sweep=snakemake.output.sweep,  # noqa: F821
            **settings,
        )
