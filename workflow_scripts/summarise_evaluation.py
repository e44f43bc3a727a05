"""Means, intervals and paired differences of all variants.

In: values per image of every variant and subject. Out: one table of means and one of differences.
"""

from pathlib import Path

import pandas as pd

from neuraldiffuser import runtime, storage
from neuraldiffuser.config.evaluation import BootstrapSettings, ComparisonSettings, Judge
from neuraldiffuser.config.reconstruction import Selection
from neuraldiffuser.evaluation.long_form import average_per_image, read_by_run
from neuraldiffuser.evaluation.metrics import list_ensembled, metrics_of
from neuraldiffuser.evaluation.summary import (
    choose_brain_correlation,
    compare,
    keep_comparable,
    summarise,
    summarise_sets,
)


def summarise_evaluation(
    *,
    path_to_values: list[Path],
    path_to_sets: list[Path],
    path_to_summary: Path,
    path_to_comparisons: Path,
    judges: tuple[Judge, ...],
    identification: str,
    selections: dict[str, Selection],
    brain_correlation: str,
    bootstrap: BootstrapSettings,
    comparisons: dict[str, ComparisonSettings],
) -> None:
    """Writes the summary and the comparisons of an experiment."""
    metrics = metrics_of(judges)
    values = {
        key: choose_brain_correlation(average_per_image(tables), brain_correlation)
        for key, tables in read_by_run(path_to_values).items()
    }
    values = {
        key: table[[name for name in metrics if name in table]] for key, table in values.items()
    }
    sets = {key: pd.concat(tables) for key, tables in read_by_run(path_to_sets).items()}
    summary = [
        summarise(values, metrics=metrics, bootstrap=bootstrap),
        summarise_sets(sets, metrics=metrics),
    ]
    storage.write_table(path_to_summary, pd.concat(summary, ignore_index=True))
    differences = compare(values, comparisons=comparisons, metrics=metrics, bootstrap=bootstrap)
    comparable = keep_comparable(
        differences, selections=selections, ensembled=list_ensembled(judges, identification)
    )
    storage.write_table(path_to_comparisons, comparable)


if __name__ == "__main__":
    with runtime.job(snakemake) as settings:  # noqa: F821
        summarise_evaluation(
            path_to_values=[*snakemake.input.images, *snakemake.input.brain],  # noqa: F821
            path_to_sets=snakemake.input.sets,  # noqa: F821
            path_to_summary=snakemake.output.summary,  # noqa: F821
            path_to_comparisons=snakemake.output.comparisons,  # noqa: F821
            **settings,
        )
