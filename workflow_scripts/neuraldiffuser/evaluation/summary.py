"""From values per image to means, differences between variants, and their intervals."""

from collections.abc import Collection, Iterator, Mapping
from itertools import product

import numpy as np
import pandas as pd

from neuraldiffuser.config.evaluation import BootstrapSettings, ComparisonSettings
from neuraldiffuser.config.reconstruction import STIMULUS
from neuraldiffuser.errors import DataError
from neuraldiffuser.evaluation.images import name_ids
from neuraldiffuser.evaluation.metrics import Metric
from neuraldiffuser.evaluation.pooling import Pool, Values, explain_pool, pool_subjects
from neuraldiffuser.evaluation.statistics import adjust_holm, bootstrap_mean, sign_flip_test

ALL_SUBJECTS = "all"
SUMMARY = ["variant", "subject", "metric", "label", "mean", "low", "high", "n", "unit", "direction"]
COMPARISON = ["name", "variant_a", "variant_b", "metric", "label", "difference", "low", "high", "n"]
COMPARISON += ["p_value", "unit", "direction"]
SUMMARY_END = ["note", "subjects"]
AGGREGATION = ["variant", "metric", "label", "unit", "direction", "images", "low", "high", "n"]
AGGREGATION += ["paper", "spread", "subjects", "repeats", "best", "best_low", "best_high"]


def choose_conventions(values: pd.DataFrame, names: Mapping[str, str]) -> pd.DataFrame:
    """Adds, under the plain name, each metric by the convention that tables show.

    Args:
        values: one row per image, one column per metric.
        names: plain name -> name by that convention, of ``choose_names``.
    """
    chosen = {plain: values[name] for plain, name in names.items() if name in values}
    return values.assign(**chosen)


def summarise(
    values: Values, *, metrics: Mapping[str, Metric], bootstrap: BootstrapSettings
) -> pd.DataFrame:
    """Means with intervals over images, for each subject and over all that have the metric.

    Args:
        values: by variant and subject, one row per image, averaged over repeats.
        metrics: unit and direction of every metric.
        bootstrap: draws, level and seed.
    """
    rows = []
    for variant, subject, pool, pools in _list_pools(values):
        found = bootstrap_mean(pool.table.to_numpy(), bootstrap)
        ends = zip(pool.table.columns, found.estimate, found.low, found.high, strict=True)
        for name, mean, low, high in ends:
            head = (variant, subject, name, metrics[name].label, mean, low, high, len(pool.table))
            note = explain_pool(pool, name, pools=pools, metrics=metrics)
            tail = (metrics[name].unit, metrics[name].direction, note, len(pool.subjects))
            rows.append((*head, *tail))
    return pd.DataFrame(rows, columns=[*SUMMARY, *SUMMARY_END])


def _list_pools(values: Values) -> Iterator[tuple[str, str, Pool, list[Pool]]]:
    """Every subject alone, then all together: variant, subject, pool, and the pools it is of."""
    for (variant, subject), table in values.items():
        pool = Pool(table, (subject,), len(table))
        yield variant, subject, pool, [pool]
    for variant, pools in pool_subjects(values).items():
        for pool in pools:
            yield variant, ALL_SUBJECTS, pool, pools


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
        return pd.DataFrame(columns=[*SUMMARY, *SUMMARY_END])
    single = pd.concat(tables, ignore_index=True).rename(columns={"value": "mean"})
    # A mean over subjects needs a value of every subject; the note says why there is none.
    pooled = (
        single.sort_values("mean", key=pd.Series.notna, kind="stable")
        .groupby(["variant", "metric"], sort=False)
        .agg(
            mean=("mean", lambda means: means.mean(skipna=False)),
            n=("n", "min"),
            note=("note", "first"),
            subjects=("subject", "nunique"),
        )
    )
    alone = single.assign(subjects=1)
    both = pd.concat([alone, pooled.reset_index().assign(subject=ALL_SUBJECTS)])
    described = both.assign(
        label=both["metric"].map(lambda name: metrics[name].label),
        unit=both["metric"].map(lambda name: metrics[name].unit),
        direction=both["metric"].map(lambda name: metrics[name].direction),
        low=np.nan,
        high=np.nan,
    )
    return described[[*SUMMARY, *SUMMARY_END]].reset_index(drop=True)


def join_sets(summary: pd.DataFrame, sets: pd.DataFrame) -> pd.DataFrame:
    """Both summaries, with one row for all subjects where a judge was skipped for some of them.

    That row is the mean of the others; its note names who was skipped, and why.
    """
    keys = ["variant", "metric"]
    measured = pd.MultiIndex.from_frame(summary[keys])
    partly = pd.MultiIndex.from_frame(sets[keys]).isin(measured)
    of_all = sets["subject"] == ALL_SUBJECTS
    skipped = {
        key: f"without {', '.join(rows['subject'])}: {rows['note'].iloc[0]}"
        for key, rows in sets[partly & ~of_all].groupby(keys)
    }
    told = [
        "; ".join(filter(None, [row.note, skipped.get((row.variant, row.metric), "")]))
        if row.subject == ALL_SUBJECTS
        else row.note
        for row in summary.itertuples()
    ]
    parts = [part for part in (summary.assign(note=told), sets[~(partly & of_all)]) if len(part)]
    return pd.concat(parts, ignore_index=True)


def aggregate(
    summary: pd.DataFrame, *, best: pd.DataFrame, repeats: Mapping[str, int]
) -> pd.DataFrame:
    """Ways to average every variant and metric over repeats and subjects, beside each other.

    ``images`` averages each image over the subjects, so that its interval tells how far other
    images would move it; ``paper`` is the mean over subjects of each subject's own mean, which the
    paper's tables are, with ``spread``, the standard deviation over subjects. Both are equal where
    all subjects saw the same images. ``best`` is as ``images``, of the best repeat of each image
    by the metric itself.

    Args:
        summary: rows of single subjects and of all, averaged over repeats.
        best: the same of the best repeats.
        repeats: how many reconstructions of an image each variant has.
    """
    keys = ["variant", "metric"]
    everybody = summary[summary["subject"] == ALL_SUBJECTS].rename(columns={"mean": "images"})
    alone = summary[summary["subject"] != ALL_SUBJECTS].groupby(keys, sort=False)["mean"]
    own = alone.agg(
        paper=lambda means: means.mean(skipna=False), spread=lambda means: means.std(skipna=False)
    )
    chosen = best[best["subject"] == ALL_SUBJECTS].set_index(keys)[["mean", "low", "high"]]
    chosen.columns = ["best", "best_low", "best_high"]
    joined = everybody.join(own, on=keys).join(chosen, on=keys)
    return joined.assign(repeats=joined["variant"].map(repeats))[AGGREGATION]


def judge_differences(
    differences: pd.DataFrame, bootstrap: BootstrapSettings
) -> Iterator[tuple[str, float, float, float, float]]:
    """Metric, mean, ends of its interval, and p of random signs, of differences by image (n, k)."""
    values = differences.to_numpy()
    found, p_values = bootstrap_mean(values, bootstrap), sign_flip_test(values, bootstrap)
    return zip(differences, found.estimate, found.low, found.high, p_values, strict=True)


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
    pooled = pool_subjects(values)
    rows = []
    for name, pair in comparisons.items():
        for differences in _differences(pooled, pair):
            for metric, mean, low, high, p_value in judge_differences(differences, bootstrap):
                head = (name, pair.first, pair.second, metric, metrics[metric].label)
                tail = (p_value, metrics[metric].unit, metrics[metric].direction)
                rows.append((*head, mean, low, high, len(differences), *tail))
    return pd.DataFrame(rows, columns=COMPARISON)


def adjust_families(differences: pd.DataFrame, *, metrics: Mapping[str, Metric]) -> pd.DataFrame:
    """Adds ``p_holm``: p adjusted over the metrics that tables show of one comparison.

    Further conventions of a metric are not tests of their own: theirs stay empty.
    """
    details = [name for name, metric in metrics.items() if metric.is_detail]
    shown = differences[~differences["metric"].isin(details)]
    adjusted = shown.groupby("name")["p_value"].transform(lambda p: adjust_holm(p.to_numpy()))
    return differences.assign(p_holm=adjusted)


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


def _differences(
    pooled: Mapping[str, list[Pool]], pair: ComparisonSettings
) -> Iterator[pd.DataFrame]:
    """Images x metrics for every pool of metrics that both variants have."""
    for first, second in product(pooled.get(pair.first, ()), pooled.get(pair.second, ())):
        metrics = first.table.columns.intersection(second.table.columns, sort=False)
        if len(metrics):
            _require_equal(first, second, pair=pair, metric=metrics[0])
            yield first.table[metrics] - second.table.loc[first.table.index, metrics]


def _require_equal(first: Pool, second: Pool, *, pair: ComparisonSettings, metric: str) -> None:
    """The same images and the same subjects, unless one has the stimulus in their place."""
    alone = first.table.index.symmetric_difference(second.table.index).to_numpy()
    if len(alone):
        raise DataError(
            f"{pair.first} and {pair.second} were measured on different images "
            f"({name_ids(alone)} only in one); run both on the same test images."
        )
    apart = set(first.subjects) ^ set(second.subjects)
    if apart and STIMULUS not in apart:
        raise DataError(
            f"{metric} of {pair.first} and {pair.second} was measured for different subjects "
            f"({', '.join(sorted(apart))} only in one); evaluate both for the same subjects."
        )
