"""Values per image and repeat as a table with the columns id, repeat, metric and value."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from neuraldiffuser import storage
from neuraldiffuser.errors import DataError
from neuraldiffuser.evaluation.images import name_ids
from neuraldiffuser.evaluation.metrics import Metric

ALL_REPEATS = -1


def to_long_form(ids: np.ndarray, values: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """One row per metric, image and repeat; repeat is -1 for what describes all repeats together.

    Args:
        ids: (n,) 73k ids.
        values: by metric (n, repeats) or (n,).
    """
    return pd.concat([_rows(ids, name, found) for name, found in values.items()], ignore_index=True)


def _rows(ids: np.ndarray, metric: str, values: np.ndarray) -> pd.DataFrame:
    if values.ndim == 1:
        repeats = np.full(len(ids), ALL_REPEATS)
    else:
        repeats = np.tile(np.arange(values.shape[1]), len(ids))
        ids = np.repeat(ids, values.shape[1])
    rows = pd.DataFrame(
        {"id": ids, "repeat": repeats, "metric": metric, "value": values.ravel().astype(np.float64)}
    )
    broken = np.unique(rows.loc[~np.isfinite(rows["value"]), "id"])
    if len(broken):
        raise DataError(
            f"{metric} is not finite for the images {name_ids(broken)}; "
            "look at their reconstructions and run the variant again."
        )
    return rows


def read_by_run(paths: Iterable[Path | str]) -> dict[tuple[str, str], list[pd.DataFrame]]:
    """The tables of each variant and subject, which are the folders they lie in."""
    tables: dict[tuple[str, str], list[pd.DataFrame]] = {}
    for path in map(Path, paths):
        key = path.parent.parent.name, path.parent.name
        tables.setdefault(key, []).append(storage.read_table(path))
    return tables


def count_repeats(runs: Mapping[tuple[str, str], list[pd.DataFrame]]) -> dict[str, int]:
    """How many reconstructions of an image each variant has; 1 where all were measured at once."""
    counts: dict[str, int] = {}
    for (variant, _), tables in runs.items():
        found = max(table["repeat"].max() for table in tables) + 1
        counts[variant] = max(counts.get(variant, 1), int(found))
    return counts


def average_per_image(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """Long form to one row per image and one column per metric, averaged over repeats.

    Raises:
        DataError: a metric lacks an image or a repeat that another has, has one twice, or a value
            is not finite.
    """
    values = pd.concat(tables, ignore_index=True)
    twice = values[values.duplicated(["id", "repeat", "metric"])]
    if len(twice):
        raise DataError(
            f"{twice['metric'].iloc[0]} stands twice for the images "
            f"{name_ids(twice['id'].unique())}; delete these evaluations and run them again."
        )
    wide = values.groupby(["id", "metric"], sort=True)["value"].mean().unstack("metric")
    incomplete = wide.index[~np.isfinite(wide.to_numpy()).all(axis=1)].to_numpy()
    if len(incomplete):
        raise DataError(
            f"the images {name_ids(incomplete)} lack values of some metric; "
            "delete these evaluations and run them again."
        )
    _require_equal_repeats(values[values["repeat"] != ALL_REPEATS])
    return wide


def best_per_image(tables: list[pd.DataFrame], *, metrics: Mapping[str, Metric]) -> pd.DataFrame:
    """Long form to the best of each image's repeats, by each metric for itself.

    It needs the stimulus to choose, so it bounds what a choice could reach. Metrics of all repeats
    together are left out, and those of sets, of which an image has no better or worse.

    Args:
        tables: as ``average_per_image`` takes them.
        metrics: what is better of each metric.
    """
    values = pd.concat(tables, ignore_index=True)
    of_images = [name for name in values["metric"].unique() if metrics[name].is_of_images]
    single = values[(values["repeat"] != ALL_REPEATS) & values["metric"].isin(of_images)]
    grouped = single.groupby(["id", "metric"], sort=True)["value"]
    highest, lowest = (found.unstack("metric") for found in (grouped.max(), grouped.min()))
    lower = [name for name in lowest if not metrics[name].higher_is_better]
    return highest.assign(**{name: lowest[name] for name in lower})


def _require_equal_repeats(values: pd.DataFrame) -> None:
    """Every image has every repeat in every metric that has repeats."""
    counts = values.groupby(["id", "repeat"])["metric"].size().unstack("repeat", fill_value=0)
    partial = counts.index[(counts < values["metric"].nunique()).any(axis=1)].to_numpy()
    if len(partial):
        raise DataError(
            f"the images {name_ids(partial)} lack repeats that other images or metrics have; "
            "delete these evaluations and run them again."
        )
