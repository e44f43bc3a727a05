"""Decoders beside their controls: means, and paired differences over held-out images.

A measure has a value and a weight for each image: successes and trials for retrieval, the value
and 1 for Pearson r. The unit is the image: one that several subjects saw enters once, with its
values and weights summed over these subjects, and images are resampled whoever saw them. The rule
holds for test images, which subjects share, and for validation images, which they do not.
"""

import re
from typing import TypeVar

import pandas as pd

from neuraldiffuser.config.evaluation import BootstrapSettings
from neuraldiffuser.errors import DataError
from neuraldiffuser.evaluation.images import name_ids
from neuraldiffuser.evaluation.predictors import (
    ALL,
    DECODER,
    DRAWN,
    GUIDANCE,
    LAYER_MEAN,
    RIDGE,
    SCRATCH,
    VOTE,
    is_guidance,
)
from neuraldiffuser.evaluation.statistics import bootstrap_ratio

ALL_SUBJECTS = "all"
SINGLE_LAYERS = "layers"  # retrieval by one guidance layer at a time, averaged over layers
BOTH = "both"  # image and brain retrieval, averaged
OUTPUTS = {"projection": "retrieval", "embedding": "embedding_retrieval"}
PEARSON = {
    "clip_text": "pearson_clip_text",
    LAYER_MEAN: "pearson_layers",
    "vae_latent": "pearson_vae_latent",
}
CONTROLS = (SCRATCH, RIDGE)

VALUES = ["subject", "split", "id", "predictor", "measure", "value", "weight"]
SUMMARY = ["split", "subject", "predictor", "measure", "mean", "low", "high", "n", "unit"]
COMPARISON = ["split", "subject", "first", "second", "measure", "mean_first", "mean_second"]
COMPARISON += ["difference", "low", "high", "n", "unit"]


def unit_of(measure: str) -> str:
    """The unit of a measure."""
    return "correlation" if measure.startswith("pearson_") else "share identified"


Names = TypeVar("Names", str, pd.Series)


def name_retrieval(
    direction: Names, method: Names, pool: Names, *, output: str = "projection"
) -> Names:
    """The measure of retrieval, such as ``image_retrieval_vote_all``; of texts or of columns.

    Args:
        direction: image, brain or both.
        method: a target, ``SINGLE_LAYERS`` or ``VOTE``.
        pool: of candidates, drawn or all.
        output: key of ``OUTPUTS``.
    """
    return direction + f"_{OUTPUTS[output]}_" + method + "_" + pool


def list_retrieval(images: pd.DataFrame) -> pd.DataFrame:
    """Retrieval by image as measures: single methods, layers averaged, both directions averaged.

    ``retrieval`` is by the output a predictor is trained to retrieve with: its projection, or,
    where it has none, its embedding. ``embedding_retrieval`` is by every predictor's embedding.

    Args:
        images: columns subject, split, id, predictor, output, method, direction, pool, successes,
            trials.
    """
    single = images[[is_guidance(method) for method in images["method"]]]
    methods = pd.concat([images, single.assign(method=SINGLE_LAYERS)])
    rows = pd.concat([methods, methods.assign(direction=BOTH)])
    projecting = set(rows.loc[rows["output"] == "projection", "predictor"])
    own = rows[(rows["output"] == "projection") | ~rows["predictor"].isin(projecting)]
    embedded = rows[rows["output"] == "embedding"]
    named = pd.concat([_name_rows(own, "projection"), _name_rows(embedded, "embedding")])
    keys = [name for name in VALUES if name not in ("value", "weight")]
    return named.groupby(keys, sort=False)[["value", "weight"]].sum().reset_index()


def _name_rows(rows: pd.DataFrame, output: str) -> pd.DataFrame:
    names = name_retrieval(rows["direction"], rows["method"], rows["pool"], output=output)
    named = rows.assign(measure=names, value=rows["successes"], weight=rows["trials"])
    return named[VALUES]


def list_pearson(images: pd.DataFrame) -> pd.DataFrame:
    """Pearson r over images by image, of text, guidance layers averaged, and latent.

    Args:
        images: columns subject, split, id, predictor, target, measure, value.
    """
    chosen = images[images["measure"].eq("pearson_dimensions") & images["target"].isin(PEARSON)]
    return chosen.assign(measure=chosen["target"].map(PEARSON), weight=1.0)[VALUES]


def summarise_predictors(values: pd.DataFrame, bootstrap: BootstrapSettings) -> pd.DataFrame:
    """Means over images with intervals of every predictor and measure, over all subjects.

    Args:
        values: long form with the columns ``VALUES``.
        bootstrap: draws, level and seed.
    """
    parts = []
    for split, rows in values.groupby("split", sort=False):
        sums = _sum_by_image(rows)
        found = bootstrap_ratio(sums["value"].to_numpy(), sums["weight"].to_numpy(), bootstrap)
        table = sums["value"].columns.to_frame(index=False)
        place = {"split": split, "subject": ALL_SUBJECTS, "n": len(sums)}
        parts.append(table.assign(mean=found.estimate, low=found.low, high=found.high, **place))
    return _complete(parts, SUMMARY)


def compare_predictors(values: pd.DataFrame, bootstrap: BootstrapSettings) -> pd.DataFrame:
    """Paired differences between the decoder and its controls, for each and over all subjects.

    A control that did not run is not compared.

    Args:
        values: long form with the columns ``VALUES``.
        bootstrap: draws, level and seed.

    Raises:
        DataError: two predictors were measured on different images.
    """
    parts = []
    for split, everybody in values.groupby("split", sort=False):
        subjects = everybody.groupby("subject", sort=False)
        for subject, rows in [(ALL_SUBJECTS, everybody), *subjects]:
            sums = _sum_by_image(rows)
            for control in CONTROLS:
                if control in sums["value"]:
                    differences = _subtract(sums, control, bootstrap)
                    parts.append(differences.assign(split=split, subject=subject))
    return _complete(parts, COMPARISON)


def _sum_by_image(rows: pd.DataFrame) -> pd.DataFrame:
    """Sums over subjects: a row per id, columns (value or weight, predictor, measure)."""
    sums = rows.groupby(["id", "predictor", "measure"], sort=False)[["value", "weight"]].sum()
    wide = sums.unstack(["predictor", "measure"])
    partial = wide.index[wide.isna().any(axis=1)].to_numpy()
    if len(partial):
        raise DataError(
            f"the images {name_ids(partial)} lack values of some predictor; delete the folders "
            "evaluation/decoding and evaluation/retrieval and run the workflow again."
        )
    return wide


def _subtract(sums: pd.DataFrame, control: str, bootstrap: BootstrapSettings) -> pd.DataFrame:
    """The decoder's measures minus a control's, image by image."""
    first, second = sums["value"][DECODER], sums["value"][control]
    measures = first.columns.intersection(second.columns, sort=False)
    weights = sums["weight"][DECODER][measures]
    _require_equal(weights, sums["weight"][control][measures], control)
    differences = (first - second)[measures].to_numpy()
    found = bootstrap_ratio(differences, weights.to_numpy(), bootstrap)
    total = weights.sum()
    return pd.DataFrame(
        {
            "first": DECODER,
            "second": control,
            "measure": measures,
            "mean_first": (first[measures].sum() / total).to_numpy(),
            "mean_second": (second[measures].sum() / total).to_numpy(),
            "difference": found.estimate,
            "low": found.low,
            "high": found.high,
            "n": len(sums),
        }
    )


def _require_equal(weights: pd.DataFrame, others: pd.DataFrame, control: str) -> None:
    apart = weights.index[(weights != others).any(axis=1)].to_numpy()
    if len(apart):
        raise DataError(
            f"{DECODER} and {control} were tried unequally often on the images {name_ids(apart)}; "
            "delete the folder evaluation/retrieval and run the workflow again."
        )


def _complete(parts: list[pd.DataFrame], columns: list[str]) -> pd.DataFrame:
    if not parts:
        return pd.DataFrame(columns=columns)
    table = pd.concat(parts, ignore_index=True)
    return table.assign(unit=[unit_of(measure) for measure in table["measure"]])[columns]


RETRIEVAL = re.compile(
    rf"(?P<direction>image|brain|{BOTH})_(?P<embedding>embedding_)?retrieval_"
    rf"(?P<method>.+)_(?P<pool>{DRAWN}|{ALL})"
)
DIRECTION_WORDS = {"image": "image retrieval", "brain": "brain retrieval"}
DIRECTION_WORDS |= {BOTH: "retrieval in both directions"}
METHOD_WORDS = {
    "clip_text": "by the text alone",
    SINGLE_LAYERS: "by single guidance layers",
    VOTE: "by the vote of the guidance layers",
}
POOL_WORDS = {DRAWN: "among drawn candidates", ALL: "among all images"}
PEARSON_WORDS = {
    "pearson_clip_text": "Pearson r of the text embedding",
    "pearson_layers": "Pearson r of the guidance layers",
    "pearson_vae_latent": "Pearson r of the latent",
}


def parse_retrieval(measures: pd.Series) -> pd.DataFrame:
    """Columns direction, embedding, method and pool of each measure; empty for Pearson r."""
    return measures.str.extract(rf"^{RETRIEVAL.pattern}$")


def describe(measure: str) -> str:
    """A measure in words, such as ``image retrieval by the text alone among all images``."""
    found = RETRIEVAL.fullmatch(measure)
    if not found:
        return PEARSON_WORDS[measure]
    direction, embedded, method, pool = found.groups()
    by = METHOD_WORDS.get(method) or f"by layer {int(method.removeprefix(GUIDANCE))} alone"
    kind = " of embeddings" if embedded else ""
    return f"{DIRECTION_WORDS[direction]}{kind} {by} {POOL_WORDS[pool]}"
