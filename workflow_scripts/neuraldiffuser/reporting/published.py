"""The paper's own values: how its columns and rows are called beside ours.

A value is an entry of a table, as ours are; PAPER_METRICS says which of our metrics it is.
"""

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from neuraldiffuser import storage, words
from neuraldiffuser.config.report import Presentation
from neuraldiffuser.evaluation.metrics import brain_metric
from neuraldiffuser.evaluation.predictors import DECODER, is_guidance
from neuraldiffuser.reporting import labels

PAPER = "paper"
PUBLISHED = "as published"
# column of the paper's tables: (name of our metric, factor from the paper's unit to ours)
PERCENT = 0.01
PAPER_METRICS: dict[str, tuple[str, float]] = {
    "ssim": ("ssim", 1),
    "pixcorr": ("pixcorr", 1),
    "alexnet2": ("alexnet2", PERCENT),
    "alexnet5": ("alexnet5", PERCENT),
    "inception": ("inception", PERCENT),
    "clip": ("clip", PERCENT),
    "effnet": ("effnet", 1),
    "swav": ("swav", 1),
    "V1": (brain_metric("V1"), 1),
    "V2": (brain_metric("V2"), 1),
    "V3": (brain_metric("V3"), 1),
    "V4": (brain_metric("hV4"), 1),
    "higher_vis": (brain_metric("higher_visual"), 1),
    "whole_vis": (brain_metric("nsdgeneral"), 1),
    "image_retrieval": ("image_retrieval", PERCENT),
    "brain_retrieval": ("brain_retrieval", PERCENT),
    "inception_score": ("inception_score", 1),
    "fid": ("fid", 1),
    "parameters_pretraining_millions": ("weights_pretraining", 1),
    "parameters_subject_millions": ("weights_subject", 1),
    "training of one decoding model": ("training_hours", 1),
    "inference with guidance": ("guided_seconds", 1),
    "inference without guidance": ("unguided_seconds", 1),
    "recommended GPU memory": ("gpu_memory", 1),
    "GPUs used for training": ("training_gpus", 1),
}
# heading, unit, direction, group of metrics that only the paper has, or that no judge measures
PAPER_HEADINGS: dict[str, tuple[str, str, str, str]] = {
    "alexnet2": ("AlexNet(2)", "share identified", "higher", labels.LOW),
    "alexnet5": ("AlexNet(5)", "share identified", "higher", labels.LOW),
    "inception": ("IncepV3", "share identified", "higher", labels.HIGH),
    "clip": ("CLIP", "share identified", "higher", labels.HIGH),
    "effnet": ("EffNet-B", "1 - correlation", "lower", labels.HIGH),
    "swav": ("SwAV", "1 - correlation", "lower", labels.HIGH),
    "inception_score": ("IS", "exponential of nats", "higher", labels.QUALITY),
    "fid": ("FID", "squared distance", "lower", labels.QUALITY),
    "image_retrieval": ("Image retrieval", "share identified", "higher", labels.RETRIEVED),
    "brain_retrieval": ("Brain retrieval", "share identified", "higher", labels.RETRIEVED),
    "image_retrieval_all": ("Image, among all", "share identified", "higher", labels.RETRIEVED),
    "brain_retrieval_all": ("Brain, among all", "share identified", "higher", labels.RETRIEVED),
    "weights_pretraining": ("Pretraining", words.MILLION, "none", labels.SIZE),
    "trained_pretraining": ("Pretraining, trained", words.MILLION, "none", labels.SIZE),
    "weights_subject": ("One subject", words.MILLION, "none", labels.SIZE),
    "trained_subject": ("One subject, trained", words.MILLION, "none", labels.SIZE),
    "training_hours": ("Training of one decoder (hours)", words.HOURS, "none", labels.COST),
    "guided_seconds": ("An image with guidance (s)", words.SECONDS, "none", labels.COST),
    "unguided_seconds": ("An image without guidance (s)", words.SECONDS, "none", labels.COST),
    "gpu_memory": ("GPU memory recommended (GB)", words.GIGABYTES, "none", labels.COST),
    "training_gpus": ("GPUs used for training", words.COUNT, "none", labels.COST),
}
ENTRY = [
    "origin",
    "row",
    "metric",
    "label",
    "group",
    "unit",
    "direction",
    "value",
    "low",
    "high",
    "n",
    "difference",
    "within",
    "note",
    "spread",
]
METHOD = "NeuralDiffuser"


def read_paper(
    path: Path,
    name_rows: Callable[[pd.DataFrame, Presentation], pd.Series],
    experiment: Presentation,
) -> pd.DataFrame:
    """The paper's values as entries in our units; a file of single values makes one row."""
    wide = storage.read_table(path)
    if wide.columns[1] == "value":
        wide = wide.set_index(wide.columns[0])[["value"]].T
    rows = name_rows(wide, experiment)
    columns = [column for column in wide.columns if column in PAPER_METRICS]
    entries = [
        _paper_entry(row, column, value, experiment)
        for row, values in zip(rows, wide[columns].to_numpy(float), strict=True)
        for column, value in zip(columns, values, strict=True)
    ]
    return pd.DataFrame(entries).reindex(columns=ENTRY)


def _paper_entry(row: str, column: str, value: float, experiment: Presentation) -> dict:
    name, factor = PAPER_METRICS[column]
    return {
        "origin": PAPER,
        "row": row,
        "metric": name,
        **describe_metric(name, experiment),
        "value": value * factor,
        "note": PUBLISHED if experiment.comparable else f"{PUBLISHED}, not comparable",
    }


def describe_metric(name: str, experiment: Presentation) -> dict[str, str]:
    """Heading, group, unit and direction of a metric, whoever measured it."""
    known = labels.metrics_in_order(experiment.judges)
    if name in known:
        metric = known[name]
        return {
            "label": metric.label,
            "group": labels.group_of(metric),
            "unit": metric.unit,
            "direction": metric.direction,
        }
    label, unit, direction, group = PAPER_HEADINGS[name]
    return {"label": label, "group": group, "unit": unit, "direction": direction}


def name_retrieval_row(method: str, predictor: str) -> str:
    """By what and by whom something is retrieved."""
    return f"{labels.label_method(method)}: {labels.label_predictor(predictor)}"


def name_size_row(target: str) -> str:
    """A decoder, or all that read the brain through CLIP."""
    known = {"all": "c and all g layers", "clip_image_257": "257 × 768 image embedding"}
    if target in known:
        return known[target]
    return "g (each layer)" if is_guidance(target) else labels.label_target(target)


def name_hyperparameters(scale: float, strength: float) -> str:
    """A column of Table 2."""
    if scale == 0:
        return "κ 0"
    return f"κ {words.group_thousands(scale)}, η {strength:g}"


def name_by_hyperparameters(wide: pd.DataFrame, experiment: Presentation) -> pd.Series:  # noqa: ARG001
    """The paper's rows of Table 2."""
    return pd.Series(
        [name_hyperparameters(k, e) for k, e in zip(wide["kappa"], wide["eta"], strict=True)]
    )


def name_by_method(wide: pd.DataFrame, experiment: Presentation) -> pd.Series:  # noqa: ARG001
    """The paper's rows of Table 1."""
    return wide["method"]


def name_best_of_five(wide: pd.DataFrame, experiment: Presentation) -> pd.Series:  # noqa: ARG001
    """The paper's row of its best of five repeats, whose choice it does not define."""
    return pd.Series([f"{METHOD}, best of 5 (rule undefined in the paper)"] * len(wide))


def name_by_subject(wide: pd.DataFrame, experiment: Presentation) -> pd.Series:  # noqa: ARG001
    """The paper's rows of Tables 3 and 4."""
    return wide["subject"]


def name_text_retrieval(wide: pd.DataFrame, experiment: Presentation) -> pd.Series:  # noqa: ARG001
    """The paper's only row of retrieval by one embedding."""
    return wide["method"].map(lambda method: name_retrieval_row(method, DECODER))


def name_by_size(wide: pd.DataFrame, experiment: Presentation) -> pd.Series:  # noqa: ARG001
    """The paper's rows of its model cost."""
    return wide["target"].map(name_size_row)


def name_the_paper(wide: pd.DataFrame, experiment: Presentation) -> pd.Series:  # noqa: ARG001
    """The paper's only row of its cost."""
    return pd.Series(["the paper, RTX 3090 (24 GB)"] * len(wide))
