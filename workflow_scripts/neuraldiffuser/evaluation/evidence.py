"""What speaks against the findings, told beside them: what worsens, and what a control gains."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import pandas as pd

from neuraldiffuser import words
from neuraldiffuser.evaluation.metrics import is_detail, is_of_brain
from neuraldiffuser.evaluation.predictors import (
    DECODER,
    GUIDANCE,
    LAYER_MEAN,
    MEAN_FEATURE,
    TEST,
)
from neuraldiffuser.evaluation.variants import FEATURE_WORDS, OWN

R2, PEARSON = "r2_dimensions", "pearson_dimensions"
TARGET_WORDS = {"vae_latent": "the latent", "clip_text": "the text embedding"}


def tell_evidence(
    gains: pd.DataFrame, guided_by_encoder: Collection[str]
) -> Iterable[tuple[pd.Series, str]]:
    """Of each variant with controls, then of each control: what it improves and what it worsens.

    Over all metrics that tables show, but for brain correlations whose own judge guided. A metric
    changes measurably where its interval excludes zero.

    Args:
        gains: table of ``gains.compare_with_controls``.
        guided_by_encoder: variants that the encoder guided, which scores brain correlations.

    Returns:
        The row of the most telling difference and the sentence, for each.
    """
    judged = gains["variant"].isin(list(guided_by_encoder)) & gains["metric"].map(is_of_brain)
    shown = gains[~gains["metric"].map(is_detail) & ~judged]
    for (_, variant), rows in shown.groupby(["of", "variant"], sort=False):
        better, worse = rows[_find_better(rows)], rows[_find_better(rows, sign=-1)]
        if rows["features"].iloc[0] == OWN:
            contrary, sentence = worse, _tell_own(variant, rows, better, worse)
        else:
            contrary, sentence = better, _tell_control(rows, better, worse)
        yield (contrary if len(contrary) else rows).iloc[0], sentence


def _find_better(rows: pd.DataFrame, sign: int = 1) -> pd.Series:
    """Which intervals lie wholly on the better side of zero, or on the worse one (-1)."""
    rises = rows["direction"].map({"higher": sign, "lower": -sign}) > 0
    return (rows["low"] > 0).where(rises, rows["high"] < 0)


def _tell_own(variant: str, rows: pd.DataFrame, better: pd.DataFrame, worse: pd.DataFrame) -> str:
    gained = [f"{_name_metric(row)} ({words.write_p(row.p_holm)})" for row in better.itertuples()]
    lost = [_tell_change(row) for row in worse.itertuples()]
    improved = f": {words.join_words(gained)}" if gained else ""
    return (
        f"Beside no guidance, {words.write_name(variant)} measurably improves {len(better)} of "
        f"{words.write_count(len(rows), 'measure')}{improved}. It worsens "
        f"{words.join_words(lost) if lost else 'none'}."
    )


def _tell_control(rows: pd.DataFrame, better: pd.DataFrame, worse: pd.DataFrame) -> str:
    features = FEATURE_WORDS[rows["features"].iloc[0]]
    gained = [_tell_change(row) for row in better.itertuples()]
    lost = [_tell_change(row) for row in worse.itertuples()]
    head = (
        f"The control, guided by {features}, measurably improves "
        f"{words.join_words(gained) if gained else 'nothing'} and worsens "
        f"{words.join_words(lost) if lost else 'nothing'}."
    )
    if not gained:
        return head
    return f"{head} What it improves is not owed to the image's own features alone."


def _tell_change(row: Any) -> str:
    change = words.write_estimate(row.difference, row.low, row.high, unit=row.unit, signed=True)
    lower = "" if row.direction == "higher" else "lower is better; "
    return f"{_name_metric(row)} {change} ({lower}{words.write_p(row.p_holm)})"


def _name_metric(row: Any) -> str:
    return f"brain correlation in {row.label}" if is_of_brain(row.metric) else row.label


def tell_scale(decoding: Mapping[str, pd.DataFrame]) -> Iterable[tuple[pd.Series, str]]:
    """Targets that are decoded with a smaller R² than the mean feature has.

    Args:
        decoding: by subject, the table of its rule.

    Returns:
        The row of the lowest R² and the sentence, for each target.
    """
    tables = [table.assign(subject=name) for name, table in decoding.items()]
    chosen = pd.concat(tables, ignore_index=True)
    chosen = chosen[(chosen["split"] == TEST) & (chosen["target"] != LAYER_MEAN)]
    for target, rows in chosen.groupby("target", sort=False):
        values = rows.set_index(["measure", "predictor", "subject"])["value"]
        decoded = rows[(rows["measure"] == R2) & (rows["predictor"] == DECODER)]
        means = decoded["subject"].map(lambda name, v=values: v.get((R2, MEAN_FEATURE, name)))
        below = decoded.assign(mean_feature=means.astype(float))
        below = below[below["value"] < below["mean_feature"]]
        if len(below):
            found = [values.get((PEARSON, DECODER, name)) for name in below["subject"]]
            yield below.loc[below["value"].idxmin()], _tell_target(target, below, found)


def _tell_target(target: str, below: pd.DataFrame, pearson: list[float | None]) -> str:
    what = TARGET_WORDS.get(target) or f"guidance layer {int(target.removeprefix(GUIDANCE))}"
    each = [
        f"{words.write_estimate(row.value, row.low, row.high)} ({row.subject}; the mean feature "
        f"has {words.write_number(row.mean_feature)})"
        for row in below.itertuples()
    ]
    sentence = (
        f"R² over images of {what} is {words.join_words(each)}: in squared error, always answering "
        "with the mean feature is better."
    )
    known = [value for value in pearson if value is not None]
    if not known or min(known) <= 0:
        return sentence
    shown = words.join_words([words.write_number(value) for value in known])
    return f"{sentence} Pearson r is {shown}: what is decoded follows the images, not their scale."
