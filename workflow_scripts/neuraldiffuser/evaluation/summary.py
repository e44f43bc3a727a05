"""From values per image to means, differences between variants, and their intervals."""

from collections.abc import Collection, Mapping
from functools import reduce

import numpy as np
import pandas as pd

from neuraldiffuser.config.evaluation import BootstrapSettings, ComparisonSettings
from neuraldiffuser.errors import DataError
from neuraldiffuser.evaluation.images import name_ids
from neuraldiffuser.evaluation.metrics import Metric
from neuraldiffuser.evaluation.statistics import bootstrap_mean, sign_flip_test

ALL_SUBJECTS = "all"
SUMMARY = ["variant", "subject", "metric", "label", "mean", "low", "high", "n", "unit", "direction"]
COMPARISON = ["name", "variant_a", "variant_b", "metric", "label", "difference", "low", "high", "n"]
COMPARISON += ["p_value", "unit", "direction"]

Values = Mapping[tuple[str, str], pd.DataFrame]  # (variant, subject): images x metrics


def choose_conventions(values: pd.DataFrame, names: Mapping[str, str]) -> pd.DataFrame:
    """Adds, under the plain name, each metric by the convention that tables show.

    Args:
        values: one row per image, one column per metric.
        names: plain name -> name by that convention, of ``choose_names``.
    """
    chosen = {plain: values[name] for plain, name in names.items() if name in values}
    return values.assign(**chosen)


def average_subjects(values: Values) -> dict[str, pd.DataFrame]:
    """By variant: values per image averaged over subjects, for images and metrics all have."""
    variants = dict.fromkeys(variant for variant, _ in values)
    return {
        variant: _mean_of_common([table for (name, _), table in values.items() if name == variant])
        for variant in variants
    }


def _mean_of_common(tables: list[pd.DataFrame]) -> pd.DataFrame:
    ids = reduce(pd.Index.intersection, [table.index for table in tables]).sort_values()
    metrics = reduce(lambda a, b: a.intersection(b, sort=False), [t.columns for t in tables])
    if not len(ids):
        raise DataError(
            "the subjects share no test image, so there is no mean over subjects per image; "
            "evaluate subjects that saw the same test images."
        )
    return sum(table.loc[ids, metrics] for table in tables) / len(tables)


def summarise(
    values: Values, *, metrics: Mapping[str, Metric], bootstrap: BootstrapSettings
) -> pd.DataFrame:
    """Means with intervals over images, for each subject and over all of them.

    Args:
        values: by variant and subject, one row per image, averaged over repeats.
        metrics: unit and direction of every metric.
        bootstrap: draws, level and seed.
    """
    pooled = {(name, ALL_SUBJECTS): table for name, table in average_subjects(values).items()}
    rows = []
    for (variant, subject), table in {**values, **pooled}.items():
        found = bootstrap_mean(table.to_numpy(), bootstrap)
        ends = zip(table.columns, found.estimate, found.low, found.high, strict=True)
        for name, mean, low, high in ends:
            head = (variant, subject, name, metrics[name].label, mean, low, high, len(table))
            rows.append((*head, metrics[name].unit, metrics[name].direction))
    return pd.DataFrame(rows, columns=SUMMARY)


def summarise_sets(
    sets: Mapping[tuple[str, str], pd.DataFrame], *, metrics: Mapping[str, Metric]
) -> pd.DataFrame:
    """Values of whole sets in the columns of the summary, without intervals but with notes."""
    tables = [
        table.assign(variant=variant, subject=subject)
        for (variant, subject), table in sets.items()
        if len(table)
    ]
    if not tables:
        return pd.DataFrame(columns=[*SUMMARY, "note"])
    single = pd.concat(tables, ignore_index=True).rename(columns={"value": "mean"})
    # A mean over subjects needs a value of every subject.
    pooled = single.groupby(["variant", "metric"], sort=False).agg(
        mean=("mean", lambda means: means.mean(skipna=False)),
        n=("n", "min"),
        note=("note", "first"),
    )
    both = pd.concat([single, pooled.reset_index().assign(subject=ALL_SUBJECTS)])
    described = both.assign(
        label=both["metric"].map(lambda name: metrics[name].label),
        unit=both["metric"].map(lambda name: metrics[name].unit),
        direction=both["metric"].map(lambda name: metrics[name].direction),
        low=np.nan,
        high=np.nan,
    )
    return described[[*SUMMARY, "note"]].reset_index(drop=True)


def compare(
    values: Values,
    *,
    comparisons: Mapping[str, ComparisonSettings],
    metrics: Mapping[str, Metric],
    bootstrap: BootstrapSettings,
) -> pd.DataFrame:
    """Paired differences between variants: subjects averaged per image, then over images.

    Comparisons of variants that were not evaluated are left out.

    Args:
        values: by variant and subject, one row per image, averaged over repeats.
        comparisons: the pairs, by name.
        metrics: unit and direction of every metric.
        bootstrap: draws, level and seed.

    Raises:
        DataError: two variants were measured on different images.
    """
    pooled = average_subjects(values)
    rows = []
    for name, pair in comparisons.items():
        if pair.first not in pooled or pair.second not in pooled:
            continue
        differences = _differences(pooled, pair)
        found = bootstrap_mean(differences.to_numpy(), bootstrap)
        p_values = sign_flip_test(differences.to_numpy(), bootstrap)
        ends = zip(
            differences.columns, found.estimate, found.low, found.high, p_values, strict=True
        )
        for metric, mean, low, high, p_value in ends:
            head = (name, pair.first, pair.second, metric, metrics[metric].label)
            tail = (p_value, metrics[metric].unit, metrics[metric].direction)
            rows.append((*head, mean, low, high, len(differences), *tail))
    return pd.DataFrame(rows, columns=COMPARISON)


def keep_comparable(
    differences: pd.DataFrame, *, selections: Collection[str], ensembled: Collection[str]
) -> pd.DataFrame:
    """Leaves out what one repeat of an image and all of them together cannot be compared in.

    Args:
        differences: table of ``compare``.
        selections: names of those that have one repeat.
        ensembled: metrics for which all repeats act together.
    """
    single = differences[["variant_a", "variant_b"]].isin(list(selections))
    mixed = single["variant_a"] != single["variant_b"]
    return differences[~(mixed & differences["metric"].isin(ensembled))]


def _differences(pooled: Mapping[str, pd.DataFrame], pair: ComparisonSettings) -> pd.DataFrame:
    first, second = pooled[pair.first], pooled[pair.second]
    alone = first.index.symmetric_difference(second.index).to_numpy()
    if len(alone):
        raise DataError(
            f"{pair.first} and {pair.second} were measured on different images "
            f"({name_ids(alone)} only in one); run both on the same test images."
        )
    metrics = first.columns.intersection(second.columns, sort=False)
    return first[metrics] - second.loc[first.index, metrics]
