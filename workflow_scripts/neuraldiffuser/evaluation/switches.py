"""What a switch of the fidelity table does: values per image with it and without it, compared.

Paired over images: the interval tells how far other images would move a difference. What another
training of the same decoders would move, it does not tell.
"""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from neuraldiffuser import storage, words
from neuraldiffuser.config.evaluation import BootstrapSettings
from neuraldiffuser.config.root import Config
from neuraldiffuser.evaluation.long_form import average_per_image, read_by_run
from neuraldiffuser.evaluation.metrics import choose_names, metrics_of
from neuraldiffuser.evaluation.statistics import adjust_holm
from neuraldiffuser.evaluation.summary import choose_conventions, judge_differences

DECODED = "pearson_dimensions"
ALWAYS = "PixCorr"
FURTHER = 2  # of the largest differences, told beside the one that is always told
COLUMNS = ["of", "metric", "difference", "low", "high", "p", "n"]
SAME = "none: the same values"


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

    An image's differences are averaged over subjects; p is of random signs, not adjusted.
    """
    differences: dict[str, list[pd.DataFrame]] = {}
    for name in sorted(baseline.keys() & changed.keys()):
        what = words.write_name(name.partition("/")[0])
        metrics = baseline[name].columns.intersection(changed[name].columns, sort=False)
        both = changed[name][metrics] - baseline[name][metrics]
        differences.setdefault(what, []).append(both.dropna())
    tables = {what: pd.concat(found).groupby(level=0).mean() for what, found in differences.items()}
    rows = [
        (what, *found, len(table))
        for what, table in tables.items()
        for found in judge_differences(table, bootstrap)
    ]
    return pd.DataFrame(rows, columns=COLUMNS).sort_values(["of", "metric"], ignore_index=True)


def describe_effect(differences: pd.DataFrame, *, variant: str, level: float) -> str:
    """A switch's effect in words: a variant's PixCorr, and the clearest other differences.

    Where PixCorr is the same and nothing is beyond chance, the clearest difference is told as
    what it is. A metric that is the same in every image is no test, so Holm's adjustment leaves it
    out.

    Args:
        differences: of ``compare_worlds``.
        variant: whose PixCorr is told in any case.
        level: of the intervals; 1 - level bounds the chance that any difference named is none.
    """
    moved = differences[(differences[["low", "high"]] != 0).any(axis=1)]
    if moved.empty:
        return SAME
    moved = moved.assign(p=adjust_holm(moved["p"].to_numpy()))
    is_first = (moved["of"] == words.write_name(variant)) & (moved["metric"] == ALWAYS)
    told = [_tell(row) for row in moved[is_first].itertuples()]
    others = moved[~is_first]
    width = (others["high"] - others["low"]).clip(lower=np.finfo(float).tiny)
    clearest = others.loc[(others["difference"].abs() / width).sort_values(ascending=False).index]
    sure = clearest[clearest["p"] < 1 - level][:FURTHER]
    further = [_tell(row) for row in sure.itertuples()]
    if told:
        return "; ".join([*told, *(further or ["no other difference beyond chance"])])
    unsure = f"not beyond chance among {words.write_count(len(moved), 'metric')}"
    chance = [f"{_tell(row)}, {unsure}" for row in clearest[:1].itertuples()]
    return "; ".join([f"{words.write_name(variant)} {ALWAYS} the same", *(further or chance)])


def _tell(row: Any) -> str:
    """The difference and its interval, of which at least one digit is not zero."""
    decimals = max(3, 1 - math.floor(math.log10(max(abs(row.low), abs(row.high)))))
    ends = (round(end, decimals) + 0.0 for end in (row.difference, row.low, row.high))
    difference, low, high = (f"{end:+.{decimals}f}" for end in ends)
    return f"{row.of} {row.metric} {difference} [{low}, {high}]"
