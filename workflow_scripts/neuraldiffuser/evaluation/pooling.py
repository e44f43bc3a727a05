"""Means over subjects, image by image: each metric over the subjects that have it."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce

import pandas as pd

from neuraldiffuser.errors import DataError
from neuraldiffuser.evaluation.metrics import Metric

Values = Mapping[tuple[str, str], pd.DataFrame]  # (variant, subject): images x metrics


@dataclass(frozen=True)
class Pool:
    """Some metrics of one variant, averaged over the subjects that have them.

    Attributes:
        table: images that all these subjects have, by metric.
        subjects: whose.
        all_images: how many images any of them has.
    """

    table: pd.DataFrame
    subjects: tuple[str, ...]
    all_images: int


def pool_subjects(values: Values) -> dict[str, list[Pool]]:
    """By variant, a pool for each set of subjects that have metrics in common.

    Raises:
        DataError: subjects that have a metric share no image.
    """
    pools = {}
    for variant in dict.fromkeys(variant for variant, _ in values):
        tables = {subject: table for (name, subject), table in values.items() if name == variant}
        pools[variant] = [
            _average(subjects, [tables[subject][metrics] for subject in subjects])
            for subjects, metrics in _list_owners(tables).items()
        ]
    return pools


def _list_owners(tables: Mapping[str, pd.DataFrame]) -> dict[tuple[str, ...], list[str]]:
    """The metrics that the same subjects have, by these subjects."""
    owners: dict[tuple[str, ...], list[str]] = {}
    for metric in dict.fromkeys(metric for table in tables.values() for metric in table):
        subjects = tuple(subject for subject, table in tables.items() if metric in table)
        owners.setdefault(subjects, []).append(metric)
    return owners


def _average(subjects: tuple[str, ...], tables: list[pd.DataFrame]) -> Pool:
    indices = [table.index for table in tables]
    common = reduce(pd.Index.intersection, indices).sort_values()
    if not len(common):
        raise DataError(
            "the subjects share no test image, so there is no mean over subjects per image; "
            "evaluate subjects that saw the same test images."
        )
    mean = sum(table.loc[common] for table in tables) / len(tables)
    return Pool(mean, subjects, len(reduce(pd.Index.union, indices)))


def explain_pool(
    pool: Pool, metric: str, *, pools: list[Pool], metrics: Mapping[str, Metric]
) -> str:
    """What of the variant's subjects or images a mean leaves out, or nothing.

    A subject is missed where it has another metric of the same kind, such as other brain areas.
    """
    kind = metrics[metric].kind
    alike = [p.subjects for p in pools if any(metrics[name].kind == kind for name in p.table)]
    everybody = dict.fromkeys(subject for subjects in alike for subject in subjects)
    missed = [subject for subject in everybody if subject not in pool.subjects]
    notes = []
    if missed:
        notes.append(
            f"of {len(pool.subjects)} of {len(everybody)} subjects: "
            f"not measured for {', '.join(missed)}"
        )
    if len(pool.table) < pool.all_images:
        notes.append(f"{len(pool.table)} of {pool.all_images} images: those of all subjects")
    return "; ".join(notes)
