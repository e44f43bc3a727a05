"""What a switch of the fidelity table does: values per image with it and without it, compared.

Paired over images: the interval tells how far other images would move a difference. What another
training of the same decoders would move, it does not tell.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from neuraldiffuser import storage
from neuraldiffuser.config.evaluation import BootstrapSettings
from neuraldiffuser.config.root import Config
from neuraldiffuser.evaluation.long_form import average_per_image, read_by_run
from neuraldiffuser.evaluation.metrics import choose_names, metrics_of
from neuraldiffuser.evaluation.statistics import adjust_holm, bootstrap_mean, sign_flip_test
from neuraldiffuser.evaluation.summary import choose_conventions

DECODED = "pearson_dimensions"
ALWAYS = "PixCorr"
FURTHER = 2  # of the largest differences, told beside the one that is always told
COLUMNS = ["of", "metric", "difference", "low", "high", "p_holm", "n"]
SAME = "none: the same values"


def nest(key: str, value: Any) -> dict[str, Any]:
    """An overlay of the configuration that sets one dotted key."""
    for name in reversed(key.split(".")):
        value = {name: value}
    return value


def merge(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Nested mappings as Snakemake merges configuration files: the second one wins."""
    merged = dict(first)
    for name, value in second.items():
        known = merged.get(name)
        both = isinstance(known, Mapping) and isinstance(value, Mapping)
        merged[name] = merge(known, value) if both else value
    return merged


def read_world(results: Path, paths: Iterable[Path], config: Config) -> dict[str, pd.DataFrame]:
    """What was measured per image: {of what: images x metrics}.

    Args:
        results: folder of the experiment.
        paths: images.csv and brain.csv of variants and subjects.
        config: with which it was made; its conventions choose what metrics are called.
    """
    judges = config.evaluation.judges
    metrics, names = metrics_of(judges), choose_names(judges, config.evaluation.conventions)
    shown = {name: metric.label for name, metric in metrics.items() if not metric.is_detail}
    tables: dict[str, pd.DataFrame] = {}
    for (variant, subject), found in read_by_run(paths).items():
        chosen = choose_conventions(average_per_image(found), names)
        kept = chosen[[name for name in shown if name in chosen]].rename(columns=shown)
        tables[f"{variant}/{subject}"] = kept
    for subject in config.subjects:
        tables[f"decoded/{subject}"] = _read_decoded(results, subject)
        tables[f"retrieval/{subject}"] = _read_retrieval(results, subject)
    return {name: table for name, table in tables.items() if table.size}


def _read_decoded(results: Path, subject: str) -> pd.DataFrame:
    """Pearson r of each decoded embedding of the test images."""
    rows = storage.read_table(results / f"evaluation/decoding/{subject}_images.csv")
    chosen = rows.query(f"split == 'test' and predictor == 'decoder' and measure == '{DECODED}'")
    return chosen.pivot(index="id", columns="target", values="value").add_prefix("r of ")


def _read_retrieval(results: Path, subject: str) -> pd.DataFrame:
    """How often all guidance layers together retrieve each test image from its brain."""
    rows = storage.read_table(results / f"evaluation/retrieval/{subject}_images.csv")
    chosen = rows.query(
        "split == 'test' and predictor == 'decoder' and output == 'projection' "
        "and method == 'vote' and pool == 'drawn'"
    )
    shares = chosen.assign(share=chosen["successes"] / chosen["trials"])
    return shares.pivot(index="id", columns="direction", values="share").add_suffix(" by vote")


def compare_worlds(
    changed: Mapping[str, pd.DataFrame],
    baseline: Mapping[str, pd.DataFrame],
    bootstrap: BootstrapSettings,
) -> pd.DataFrame:
    """Paired differences, changed minus baseline, of whatever both have: columns ``COLUMNS``.

    p is of random signs, adjusted over all rows (Holm).
    """
    rows = []
    for name in baseline.keys() & changed.keys():
        metrics = baseline[name].columns.intersection(changed[name].columns, sort=False)
        differences = (changed[name][metrics] - baseline[name][metrics]).dropna()
        found = bootstrap_mean(differences.to_numpy(), bootstrap)
        p_values = sign_flip_test(differences.to_numpy(), bootstrap)
        ends = zip(metrics, found.estimate, found.low, found.high, p_values, strict=True)
        what = _words(name.partition("/")[0])
        rows += [(what, *row, len(differences)) for row in ends]
    table = pd.DataFrame(rows, columns=COLUMNS).sort_values(["of", "metric"], ignore_index=True)
    return table.assign(p_holm=adjust_holm(table["p_holm"].to_numpy()))


def describe_effect(differences: pd.DataFrame, *, variant: str, level: float) -> str:
    """A switch's effect in words: a variant's PixCorr, and the clearest other differences.

    Args:
        differences: of ``compare_worlds``.
        variant: whose PixCorr is told in any case.
        level: of the intervals; 1 - level bounds the chance that a difference named is none.
    """
    if (differences[["low", "high"]] == 0).all(axis=None):
        return SAME
    first = (differences["of"] == _words(variant)) & (differences["metric"] == ALWAYS)
    others = differences[~first & (differences["p_holm"] < 1 - level)]
    width = (others["high"] - others["low"]).clip(lower=np.finfo(float).tiny)
    clearest = others.loc[(others["difference"].abs() / width).nlargest(FURTHER).index]
    told = [_tell(row) for row in differences[first].itertuples()]
    told += [_tell(row) for row in clearest.itertuples()]
    if clearest.empty:
        told.append("no other difference beyond chance")
    return "; ".join(told)


def _words(name: str) -> str:
    return name.replace("_", " ")


def _tell(row: Any) -> str:
    difference, low, high = (
        f"{round(end, 3) + 0.0:+.3f}" for end in (row.difference, row.low, row.high)
    )
    return f"{row.of} {row.metric} {difference} [{low}, {high}]"
