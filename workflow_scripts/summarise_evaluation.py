"""Means, intervals and paired differences of all variants.

In: values per image of every variant and subject. Out: one table of means, one of the ways to
average them, one of differences, and one of differences to no guidance for guided variants and
their controls.
"""

from pathlib import Path

import pandas as pd

from neuraldiffuser import runtime, storage
from neuraldiffuser.config.evaluation import (
    BootstrapSettings,
    ComparisonSettings,
    Conventions,
    Judge,
)
from neuraldiffuser.config.reconstruction import Selection, Variant
from neuraldiffuser.evaluation.gains import compare_with_controls
from neuraldiffuser.evaluation.long_form import (
    average_per_image,
    best_per_image,
    count_repeats,
    read_by_run,
)
from neuraldiffuser.evaluation.metrics import choose_names, list_ensembled, metrics_of
from neuraldiffuser.evaluation.summary import (
    adjust_families,
    aggregate,
    choose_conventions,
    compare,
    join_sets,
    keep_comparable,
    summarise,
    summarise_sets,
)


def summarise_evaluation(
    *,
    path_to_values: list[Path],
    path_to_sets: list[Path],
    path_to_summary: Path,
    path_to_aggregations: Path,
    path_to_comparisons: Path,
    path_to_gains: Path,
    judges: tuple[Judge, ...],
    conventions: Conventions,
    variants: dict[str, Variant],
    selections: dict[str, Selection],
    bootstrap: BootstrapSettings,
    comparisons: dict[str, ComparisonSettings],
) -> None:
    """Writes the summary and the comparisons of an experiment.

    Args:
        path_to_values: images.csv and brain.csv of every variant or selection and subject.
        path_to_sets: their sets.csv.
        path_to_summary: means with intervals go there.
        path_to_aggregations: other ways to average over repeats and subjects go there.
        path_to_comparisons: the differences named in the configuration go there.
        path_to_gains: what guidance gains, beside its controls, goes there.
        judges: what is measured on networks.
        conventions: which of several conventions the tables show.
        variants: the resolved variants, which tell their controls.
        selections: what has one repeat of each image.
        bootstrap: draws, level and seed.
        comparisons: the differences, by name.
    """
    metrics, names = metrics_of(judges), choose_names(judges, conventions)
    runs = read_by_run(path_to_values)
    values = {
        key: choose_conventions(average_per_image(tables), names) for key, tables in runs.items()
    }
    values = {
        key: table[[name for name in metrics if name in table]] for key, table in values.items()
    }
    sets = {key: pd.concat(tables) for key, tables in read_by_run(path_to_sets).items()}
    single = summarise(values, metrics=metrics, bootstrap=bootstrap)
    summary = join_sets(single, summarise_sets(sets, metrics=metrics))
    storage.write_table(path_to_summary, summary)
    repeats = count_repeats(runs)
    best = {
        key: choose_conventions(best_per_image(tables, metrics=metrics), names)
        for key, tables in runs.items()
        if repeats[key[0]] > 1
    }
    of_best = summarise(best, metrics=metrics, bootstrap=bootstrap)
    aggregations = aggregate(summary, best=of_best, repeats=repeats)
    storage.write_table(path_to_aggregations, aggregations)
    differences = compare(values, comparisons=comparisons, metrics=metrics, bootstrap=bootstrap)
    ensembled = list_ensembled(judges, conventions.identification)
    comparable = keep_comparable(differences, selections=selections, ensembled=ensembled)
    storage.write_table(path_to_comparisons, adjust_families(comparable, metrics=metrics))
    gains = compare_with_controls(values, variants=variants, metrics=metrics, bootstrap=bootstrap)
    storage.write_table(path_to_gains, gains)


if __name__ == "__main__":
    with runtime.job(snakemake) as settings:  # noqa: F821
        summarise_evaluation(
            path_to_values=[*snakemake.input.images, *snakemake.input.brain],  # noqa: F821
            path_to_sets=snakemake.input.sets,  # noqa: F821
            path_to_summary=snakemake.output.summary,  # noqa: F821
            path_to_aggregations=snakemake.output.aggregations,  # noqa: F821
            path_to_comparisons=snakemake.output.comparisons,  # noqa: F821
            path_to_gains=snakemake.output.gains,  # noqa: F821
            **settings,
        )
