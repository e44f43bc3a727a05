"""What things are called in tables and figures."""

from collections.abc import Collection, Iterable, Mapping

import pandas as pd

from neuraldiffuser import words
from neuraldiffuser.config.evaluation import Judge
from neuraldiffuser.config.reconstruction import Selection, Term, Variant
from neuraldiffuser.config.report import Presentation
from neuraldiffuser.evaluation.contrasts import RETRIEVAL, SINGLE_LAYERS
from neuraldiffuser.evaluation.metrics import (
    AREAS,
    DIRECTIONS,
    Metric,
    brain_metric,
    list_ensembled,
    metrics_of,
)
from neuraldiffuser.evaluation.predictors import DECODER, RIDGE, SCRATCH, VOTE

LOW, HIGH, REPEATS, BRAIN, RETRIEVED, QUALITY, SIZE, COST = (
    "Low level",
    "High level",
    "Repeats",
    "Brain correlation",
    "Retrieval",
    "Image quality",
    "Weights (million)",
    "Time and memory",
)
BRAIN_WAYS = {  # (direction, as a share of the noise ceiling): group of brain correlations
    (direction, of_ceiling): f"{how.capitalize()}: {what}"
    for direction, how in DIRECTIONS.items()
    for of_ceiling, what in ((False, "Pearson r"), (True, "share of the noise ceiling"))
}
GROUPS = (LOW, HIGH, REPEATS, BRAIN, *BRAIN_WAYS.values(), RETRIEVED, QUALITY, SIZE, COST)
GROUP_OF_KIND = {"pixels": LOW, "repeats": REPEATS, "brain": BRAIN, "set": QUALITY}
GROUP_OF_LEVEL = {"early": LOW, "middle": LOW, "late": HIGH}
ARROWS = {"higher": "↑", "lower": "↓", "none": ""}
SCORED = "†"  # marks brain correlations of images that their own judge guided
JUDGED_APART = "over the voxels that guide no variant"
CHOSEN = "§"  # marks what was chosen by the very metric that measures it
SINGLE = "‡"  # marks measures of one repeat for which the repeats of others act together
# What images follow under each guidance function.
FOLLOWED = {"clip_layers": "features", "encoder": "voxels", "color": "colours"}


def metrics_in_order(judges: Iterable[Judge]) -> dict[str, Metric]:
    """The metrics of the tables by name, group by group, each by the convention chosen."""
    known = metrics_of(judges)
    chosen = [metric for metric in known.values() if not metric.is_detail]
    ordered = sorted(chosen, key=lambda metric: GROUPS.index(group_of(metric)))
    return {metric.name: metric for metric in ordered}


def choose_metrics(experiment: Presentation) -> dict[str, Metric]:
    """The metrics that an experiment shows, by name and in order."""
    known = metrics_in_order(experiment.judges)
    chosen = experiment.report.metrics or tuple(known)
    return {name: known[name] for name in chosen}


def take_judging_voxels(summary: pd.DataFrame, experiment: Presentation) -> pd.DataFrame:
    """The summary with brain correlations over the voxels that guide nothing, where some guide.

    Where no encoder guided, or all voxels guided, it stays as it is. The note says so.
    """
    judged = {brain_metric(area, judged=True): brain_metric(area) for area in AREAS}
    if summary.empty or not is_judged_apart(summary, experiment):
        return summary
    taken = summary[summary["metric"].isin(judged)]
    others = summary[~summary["metric"].isin([*judged, *judged.values()])]
    notes = [
        "; ".join([JUDGED_APART, *([note] if isinstance(note, str) and note else [])])
        for note in taken.get("note", pd.Series("", index=taken.index))
    ]
    renamed = taken.assign(metric=taken["metric"].map(judged), note=notes)
    return pd.concat([others, renamed], ignore_index=True)


def list_scored(summary: pd.DataFrame, experiment: Presentation) -> list[str]:
    """The variants whose brain correlations are those of the very voxels that guided them."""
    if is_judged_apart(summary, experiment):
        return []
    variants = experiment.variants
    return [name for name in variants if is_guided_by_encoder(name, variants)]


def is_judged_apart(summary: pd.DataFrame, experiment: Presentation) -> bool:
    """Whether an encoder guided a variant and other voxels judge all of them."""
    guided = any(is_guided_by_encoder(name, experiment.variants) for name in experiment.run)
    known = {brain_metric(area, judged=True) for area in AREAS}
    return guided and not summary.empty and bool(summary["metric"].isin(known).any())


def find_single(summary: pd.DataFrame, experiment: Presentation) -> pd.Series:
    """Which rows of the summary identify from one repeat what others do from all together."""
    ensembled = list_ensembled(experiment.judges, experiment.identification)
    return summary["variant"].isin(experiment.selections) & summary["metric"].isin(ensembled)


def group_of(metric: Metric) -> str:
    """The group of the paper's tables under which a metric stands."""
    return GROUP_OF_KIND.get(metric.kind) or GROUP_OF_LEVEL[metric.level]


def heading(metric: Metric) -> str:
    """A metric's label with an arrow towards better."""
    return f"{metric.label} {ARROWS[metric.direction]}"


def scale(rows: pd.DataFrame, columns: Iterable[str]) -> pd.DataFrame:
    """The rows with these columns as they are shown: shares in percent."""
    factors = rows["unit"].map(words.scale_of)
    return rows.assign(**{name: rows[name] * factors for name in columns})


def label_subject(subject: str) -> str:
    """The name of a subject, of the stimulus' own embeddings, or of all subjects."""
    return {"all": "all subjects", "stimulus": "ground truth"}.get(subject, subject)


def label_target(target: str) -> str:
    """The paper's letter for an embedding: z, c, or g with its layer."""
    fixed = {"vae_latent": "z (VAE)", "clip_text": "c (text)"}
    return fixed.get(target) or f"g{int(target.rsplit('_', 1)[-1])} (image)"


def label_predictor(name: str) -> str:
    """Who decodes, as words."""
    known = {DECODER: "decoder", RIDGE: "ridge regression", SCRATCH: "from scratch"}
    return known.get(name) or words.write_name(name)


def label_method(method: str) -> str:
    """By what something is retrieved: an embedding alone, or all guidance layers."""
    known = {"clip_text": "c (text) alone", VOTE: "vote of all g layers"}
    known |= {SINGLE_LAYERS: "single g layers (mean)"}
    return known.get(method) or label_target(method)


def rank_target(target: str) -> int:
    """The paper's order of embeddings: z, c, then g by layer."""
    return {"vae_latent": -2, "clip_text": -1}.get(target) or int(target.rsplit("_", 1)[-1])


def rank_method(method: str) -> int:
    """Order of retrieval: text alone, the vote, single layers."""
    return {"clip_text": -3, VOTE: -2, SINGLE_LAYERS: -1}.get(method) or rank_target(method)


def label_measure(measure: str) -> str:
    """A measure of the comparison with the controls, in few words."""
    found = RETRIEVAL.fullmatch(measure)
    if not found:
        target = {"pearson_clip_text": "c (text)", "pearson_vae_latent": "z (VAE)"}.get(measure)
        return f"Pearson r, {target or 'g layers'}"
    kind = (
        "Embedding retrieval"
        if found["embedding"]
        else f"{found['direction'].capitalize()} retrieval"
    )
    return f"{kind}, {label_method(found['method'])}"


def label_variant(name: str) -> str:
    """A variant's name as words."""
    return words.write_name(name.replace("ground_truth_", "ground truth, "))


def guidance_scale(name: str, variants: Mapping[str, Variant]) -> float | None:
    """The guidance scale kappa that the configuration fixes; 0 without guidance, None if auto.

    A sum of functions has no scale of its own: None.
    """
    terms = variants[name].terms
    if not terms:
        return 0.0
    if len(terms) > 1:
        return None
    ((function, term),) = terms.items()
    return _term_scale(function, term, variants)


def _term_scale(function: str, term: Term, variants: Mapping[str, Variant]) -> float | None:
    lender = variants.get(term.scale)
    scale = lender.terms[function].scale if lender else term.scale
    return None if scale == "auto" else scale * term.scale_factor


def is_guided_by_encoder(name: str, variants: Mapping[str, Variant]) -> bool:
    """Whether the encoder that scores brain correlations guided the variant's images."""
    return "encoder" in variants[name].terms


def tell_brain_convention(experiment: Presentation) -> str:
    """Which way round the brain correlations of tables and figures are, as a sentence."""
    way, other = experiment.brain_correlation, dict(DIRECTIONS)
    shown = other.pop(way)
    return (
        f"Brain correlation is shown {shown}; {words.join_words(list(other.values()))} it stands "
        "in the table of both conventions."
    )


def mark_scored(name: str, scored: Collection[str]) -> str:
    """A variant's name beside its brain correlations, marked where their judge guided it."""
    return label_variant(name) + (f" {SCORED}" if name in scored else "")


def is_of_sweep(name: str, experiment: Presentation) -> bool:
    """Whether a variant varies scale and strength of the headline's guidance, or has none."""
    variant = experiment.variants[name]
    functions = experiment.variants[experiment.report.headline].terms.keys()
    alike = not variant.terms or variant.terms.keys() == functions
    return alike and variant.features == "own" and name not in experiment.selections


def order_by_guidance(names: Iterable[str], variants: Mapping[str, Variant]) -> list[str]:
    """Variants without guidance first, then by function, scale and strength; controls last."""
    return sorted(names, key=lambda name: _rank(name, variants))


def _rank(name: str, variants: Mapping[str, Variant]) -> tuple:
    variant = variants[name]
    scale = guidance_scale(name, variants)
    relative = variant.scale_factor if scale is None else scale
    strength = variant.strength if relative else 0.0
    return variant.features != "own", tuple(variant.terms), relative, strength


def describe_guidance(name: str, variants: Mapping[str, Variant]) -> str:
    """Guidance scale and strength on two lines; a calibrated scale is given relative to it."""
    variant = variants[name]
    scale = guidance_scale(name, variants)
    if not variant.terms:
        return "no guidance\nκ 0"
    shown = f"× {variant.scale_factor:g}" if scale is None else words.group_thousands(scale)
    return f"κ {shown}\nη {variant.strength:g}"


def describe_variant(name: str, variants: Mapping[str, Variant]) -> str:
    """What a variant does, in one phrase."""
    variant = variants[name]
    source = {"brain": "decoded embeddings", "stimulus": "ground-truth embeddings"}[variant.source]
    if not variant.terms:
        return f"{source}, no guidance"
    whose = {"own": "the image's own", "another_image": "another image's", "mean": "the mean"}
    followed = words.join_words([FOLLOWED.get(function, function) for function in variant.terms])
    scales = [_describe_scale(*term, variants) for term in variant.terms.items()]
    return (
        f"{source}, guided by {whose[variant.features]} {followed}, "
        f"κ {words.join_words(scales)}, η {variant.strength:g}"
    )


def _describe_scale(function: str, term: Term, variants: Mapping[str, Variant]) -> str:
    scale = _term_scale(function, term, variants)
    if scale is not None:
        return words.group_thousands(scale)
    return "calibrated" if term.scale_factor == 1 else f"{term.scale_factor:g} times calibrated"


def label_functions(variant: Variant) -> str:
    """The guidance functions of a variant: ``CLIP layers + colours``."""
    return " + ".join(label_function(name) for name in variant.terms)


def label_function(name: str) -> str:
    """The name of a guidance function."""
    known = {"clip_layers": "CLIP layers", "encoder": "brain encoding", "color": "colours"}
    return known.get(name) or words.write_name(name)


def label_selection(selection: Selection) -> str:
    """How one repeat of an image is chosen."""
    return {"decoded_features": "best repeat by decoded features"}[selection.by]
