"""Means, intervals and paired differences of all variants.

In: values per image of every variant and subject. Out: one table of means, one of differences, and
one of differences to no guidance for guided variants and their controls.
"""

from pathlib import Path

import pandas as pd

from neuraldiffuser import runtime, storage
from neuraldiffuser.config.evaluation import BootstrapSettings, ComparisonSettings, Judge
from neuraldiffuser.config.reconstruction import Selection, Variant
from neuraldiffuser.evaluation.gains import compare_with_controls
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
    path_to_gains: Path,
    judges: tuple[Judge, ...],
    identification: str,
    variants: dict[str, Variant],
    selections: dict[str, Selection],
    brain_correlation: str,
    bootstrap: BootstrapSettings,
    comparisons: dict[str, ComparisonSettings],
) -> None:
    """Writes the summary and the comparisons of an experiment.

    Args:
        path_to_values: images.csv and brain.csv of every variant or selection and subject.
        path_to_sets: their sets.csv.
        path_to_summary: means with intervals go there.
        path_to_comparisons: the differences named in the configuration go there.
        path_to_gains: what guidance gains, beside its controls, goes there.
        judges: what is measured on networks.
        identification: whether all repeats of an image act together.
        variants: the resolved variants, which tell their controls.
        selections: what has one repeat of each image.
        brain_correlation: the direction that tables show.
        bootstrap: draws, level and seed.
        comparisons: the differences, by name.
    """
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
    gains = compare_with_controls(values, variants=variants, metrics=metrics, bootstrap=bootstrap)
    storage.write_table(path_to_gains, gains)


if __name__ == "__main__":
    with runtime.job(snakemake) as settings:  # noqa: F821
        summarise_evaluation(
            path_to_values=[*snakemake.input.images, *snakemake.input.brain],  # noqa: F821
            path_to_sets=snakemake.input.sets,  # noqa: F821
            path_to_summary=snakemake.output.summary,  # noqa: F821
            path_to_comparisons=snakemake.output.comparisons,  # noqa: F821
            path_to_gains=snakemake.output.gains,  # noqa: F821
            **settings,
        )
