"""What the evaluation claims in words, each claim judged by its numbers alone."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from neuraldiffuser import words
from neuraldiffuser.config.evaluation import BootstrapSettings, FindingSettings
from neuraldiffuser.errors import ConfigError
from neuraldiffuser.evaluation import contrasts, evidence, trends
from neuraldiffuser.evaluation.metrics import (
    EARLY_AREAS,
    brain_metric,
    is_detail,
    is_of_brain,
)
from neuraldiffuser.evaluation.predictors import (
    ALL,
    DECODER,
    DRAWN,
    LAYER_MEAN,
    MEAN_FEATURE,
    RIDGE,
    SCRATCH,
    TEST,
    VOTE,
)
from neuraldiffuser.evaluation.statistics import bootstrap_mean
from neuraldiffuser.evaluation.variants import FEATURE_WORDS, GUIDED, OWN, UNGUIDED, WRONG_IMAGE

GROUND_TRUTH = "ground_truth_guided"
CONSISTENCY = "consistency"
SHARE = "share identified"
BRAIN_RISES = "in brain correlation is above zero"
GUIDANCE, SWEEP, DECODERS = "guidance", "sweep", "decoders"  # what sentences are about
CONTROL_WORDS = {
    SCRATCH: "a decoder trained from scratch for as many steps as finetuning",
    RIDGE: "ridge regression",
}
TOLD = (  # of the comparisons with controls, those of which observations tell
    *(
        contrasts.name_retrieval(contrasts.BOTH, method, ALL)
        for method in ("clip_text", contrasts.SINGLE_LAYERS, VOTE)
    ),
    *contrasts.PEARSON.values(),
)


@dataclass(frozen=True)
class Estimate:
    """A number with its interval, and how it is named, counted and measured.

    Attributes:
        counted: what ``n`` counts.
        is_difference: of a pair, so that its sign is written.
        p_holm: of a test that there is no difference, adjusted over the metrics of one pair.
    """

    name: str
    value: float
    low: float
    high: float
    n: int
    unit: str
    counted: str = "image"
    is_difference: bool = False
    p_holm: float | None = None

    def observe(self) -> dict[str, Any]:
        """The entry of a finding that promises nothing."""
        return {
            "name": self.name,
            "estimate": float(self.value),
            "interval": [float(self.low), float(self.high)],
            "n": int(self.n),
            "counted": self.counted,
            "unit": self.unit,
            "is_difference": self.is_difference,
            "p_holm": self.p_holm,
        }


Rule = Callable[[Estimate], bool]


def above(limit: float) -> Rule:
    """The whole interval lies above ``limit``."""
    return lambda estimate: bool(estimate.low > limit)


def not_above(limit: float) -> Rule:
    """The interval does not lie above ``limit``."""
    return lambda estimate: bool(estimate.low <= limit)


def at_least(limit: float) -> Rule:
    """The estimate reaches ``limit``."""
    return lambda estimate: bool(estimate.value >= limit)


def between(limits: tuple[float, float]) -> Rule:
    """The estimate lies within ``limits``."""
    return lambda estimate: bool(limits[0] <= estimate.value <= limits[1])


@dataclass(frozen=True)
class Difference:
    """A claim about one metric's paired difference between two variants."""

    first: str
    second: str
    metric: str
    words: str
    rule: Rule


def claimed_differences(
    settings: FindingSettings, guided_by_encoder: Collection[str] = ()
) -> list[Difference]:
    """What guidance must show.

    In early areas too, unless the encoder that scores brain correlations guided.
    """
    areas = [] if GUIDED in guided_by_encoder else EARLY_AREAS
    gains = list_gains(settings)
    tolerated = f"loses less than {words.write_bare(settings.late_margin, unit=SHARE)} points"
    return [
        *(Difference(GUIDED, UNGUIDED, name, "is above zero", above(0)) for name in gains),
        *(
            Difference(GUIDED, UNGUIDED, name, tolerated, above(-settings.late_margin))
            for name in settings.late
        ),
        *(
            Difference(GUIDED, UNGUIDED, brain_metric(area), BRAIN_RISES, above(0))
            for area in areas
        ),
        Difference(GUIDED, WRONG_IMAGE, "pixcorr", "is above zero", above(0)),
        Difference(WRONG_IMAGE, UNGUIDED, "pixcorr", "is not shown to be above zero", not_above(0)),
    ]


def list_gains(settings: FindingSettings) -> list[str]:
    """The metrics that guidance should raise."""
    return ["pixcorr", *settings.early, CONSISTENCY]


def build_findings(
    *,
    comparisons: pd.DataFrame,
    gains: pd.DataFrame,
    swept: pd.DataFrame,
    summary: pd.DataFrame,
    predictors: pd.DataFrame,
    retrieval: Mapping[str, pd.DataFrame],
    decoding: Mapping[str, pd.DataFrame],
    noise_ceilings: Mapping[str, np.ndarray],
    guided_by_encoder: Collection[str],
    settings: FindingSettings,
    bootstrap: BootstrapSettings,
) -> dict[str, list[dict[str, Any]]]:
    """Claims with ``holds`` and a sentence, and observations without.

    A claim whose variant, metric or threshold is not there is absent.

    Args:
        comparisons: table of ``summary.compare``.
        gains: table of ``gains.compare_with_controls``.
        swept: table of ``sweep.compare_lines``.
        summary: table of ``summary.summarise``.
        predictors: table of ``contrasts.compare_predictors``.
        retrieval, decoding: by subject, the tables of their rules.
        noise_ceilings: by subject (voxels,) percent of variance.
        guided_by_encoder: variants that the encoder guided, which scores brain correlations.
        settings: metrics and thresholds of the configuration.
        bootstrap: for the mean noise ceiling over voxels.

    Raises:
        ConfigError: pretraining shall pay on a retrieval that was not measured.
    """
    claims, observations = [], []
    differences = claimed_differences(settings, guided_by_encoder)
    for row in comparisons.itertuples():
        claimed = [d for d in differences if _is_about(d, row)]
        if not claimed and not is_detail(row.metric):
            warning = _warn_of_judge(row, guided_by_encoder)
            observations.append(_compare_variants(row, warning).observe())
        for difference in claimed:
            claims.append(claim(_compare_variants(row, difference.words), difference.rule))
    observations.extend(observe_evidence(gains, guided_by_encoder))
    observations.extend(observe_guidance(gains, list_gains(settings)))
    observations.extend(observe_sweep(swept))
    gain = contrasts.name_retrieval(**settings.pretraining_gain.model_dump())
    claims.extend(claim_pretraining(predictors, gain))
    observations.extend(observe_controls(predictors, gain))
    observations.extend(observe_scale(decoding))
    thresholds = [
        (settings.ground_truth_pixcorr, at_least, estimate_ground_truth(summary)),
        (settings.retrieval_over_chance, at_least, estimate_retrieval(retrieval)),
        (settings.guidance_correlation, at_least, estimate_guidance_features(decoding)),
        (settings.noise_ceiling, between, estimate_noise_ceilings(noise_ceilings, bootstrap)),
    ]
    for limit, rule, estimates in thresholds:
        for estimate in estimates:
            if limit is None:
                observations.append(estimate.observe())
            else:
                claims.append(claim(_with_limit(estimate, limit), rule(limit)))
    observations.extend(estimate.observe() for estimate in estimate_mean_predictor(decoding))
    return {"claims": claims, "observations": observations}


def _is_about(difference: Difference, row: Any) -> bool:
    about = (difference.first, difference.second, difference.metric)
    return about == (row.variant_a, row.variant_b, row.metric)


def _warn_of_judge(row: Any, guided_by_encoder: Collection[str]) -> str:
    """What to say of a brain correlation whose judge guided the images."""
    judged = {row.variant_a, row.variant_b} & set(guided_by_encoder)
    told = judged and is_of_brain(row.metric)
    return "(guided by the encoder that scores it)" if told else ""


def _compare_variants(row: Any, promised: str) -> Estimate:
    named = f"{_name_pair(row.variant_a, row.variant_b)} {promised}".rstrip()
    return estimate_difference(row, f"{named}: {row.label}")


def _name_pair(first: str, second: str) -> str:
    return f"{words.write_name(first)} minus {words.write_name(second)}"


def estimate_difference(row: Any, name: str) -> Estimate:
    """A row of paired differences under ``name``, with its adjusted p where it has one."""
    p_holm = getattr(row, "p_holm", None)
    return Estimate(
        name,
        row.difference,
        row.low,
        row.high,
        row.n,
        row.unit,
        is_difference=True,
        p_holm=None if words.is_missing(p_holm) else float(p_holm),
    )


def claim(estimate: Estimate, rule: Rule) -> dict[str, Any]:
    """The entry of a finding that promises what ``rule`` judges."""
    holds = rule(estimate)
    return estimate.observe() | {"holds": holds, "sentence": write_sentence(estimate, holds)}


def observe_evidence(
    gains: pd.DataFrame, guided_by_encoder: Collection[str]
) -> Iterable[dict[str, Any]]:
    """What guidance worsens and its controls improve, over all metrics.

    Args:
        gains: table of ``gains.compare_with_controls``.
        guided_by_encoder: variants that the encoder guided, which scores brain correlations.
    """
    for row, sentence in evidence.tell_evidence(gains, guided_by_encoder):
        name = f"{_name_pair(row['variant'], row['reference'])}, over all measures"
        observed = estimate_difference(row, f"{name}: {row['label']}").observe()
        yield observed | {"sentence": sentence, "about": GUIDANCE}


def observe_scale(decoding: Mapping[str, pd.DataFrame]) -> Iterable[dict[str, Any]]:
    """Where the decoder's R² lies below that of always answering with the mean feature."""
    for row, sentence in evidence.tell_scale(decoding):
        name = f"R² over images of {row['subject']}'s {words.write_name(row['target'])}"
        ends = row["value"], row["low"], row["high"], row["n"]
        observed = Estimate(name, *ends, "share of variance").observe()
        yield observed | {"sentence": sentence, "about": DECODERS}


def observe_guidance(gains: pd.DataFrame, metrics: Iterable[str]) -> Iterable[dict[str, Any]]:
    """Every gain by guidance beside what features that do not belong to the image achieve.

    Args:
        gains: table of ``gains.compare_with_controls``.
        metrics: those that guidance should raise.
    """
    for variant, rows in gains.groupby("of", sort=False):
        for metric in metrics:
            told = list(rows[rows["metric"] == metric].itertuples())
            own = next((row for row in told if row.features == OWN), None)
            controls = [row for row in told if row.features != OWN]
            if own and controls:
                name = f"{_name_pair(variant, own.reference)}, beside its controls"
                observed = estimate_difference(own, f"{name}: {own.label}").observe()
                yield observed | {"sentence": tell_controls(own, controls), "about": GUIDANCE}


def tell_controls(own: Any, controls: Iterable[Any]) -> str:
    """A gain by guidance and those under its controls; of consistency, what it cannot prove."""
    changes = [f"by {FEATURE_WORDS[row.features]} {_write_change(row)}" for row in (own, *controls)]
    sentence = (
        f"{own.label} of {words.write_name(own.variant)} beside no guidance: guided "
        f"{', '.join(changes[:-1])} and {changes[-1]} ({own.n} images)."
    )
    return f"{sentence} {_judge_consistency(controls)}" if own.metric == CONSISTENCY else sentence


def _write_change(row: Any) -> str:
    change = words.write_estimate(row.difference, row.low, row.high, unit=row.unit, signed=True)
    return f"{change} ({words.write_p(row.p_holm)})"


def _judge_consistency(controls: Iterable[Any]) -> str:
    """What consistency under the controls says of consistency."""
    rising = [FEATURE_WORDS[row.features] for row in controls if row.low > 0]
    if not rising:
        return (
            "Here consistency measurably rises under no control; still it compares repeats with "
            "one another and not with the stimulus: alone it proves nothing."
        )
    under = "both controls" if len(rising) == 2 else f"guidance by {rising[0]}"
    return (
        f"Consistency rises under {under}, though nothing there tells of the image: alone it "
        "proves nothing."
    )


def observe_sweep(swept: pd.DataFrame) -> Iterable[dict[str, Any]]:
    """Whether detail rises and quality falls as guidance grows.

    Args:
        swept: table of ``sweep.compare_lines``.
    """
    for told in trends.tell_lines(swept):
        row = told.row
        place = trends.write_place(row["line"], row["place"])
        guided = f"{words.write_name(row['variant'])} ({place})"
        name = f"sweep of {row['line']}: {guided} minus no guidance"
        observed = estimate_difference(row, f"{name}: {row['label']}").observe()
        yield observed | {"sentence": told.sentence, "about": SWEEP}


def claim_pretraining(predictors: pd.DataFrame, measure: str) -> Iterable[dict[str, Any]]:
    """Finetuning after pretraining beats training from scratch on held-out retrieval.

    The control has as many steps as finetuning; pretraining adds its own to those of the decoder.
    """
    compared = _choose(_over_subjects(predictors), {"second": SCRATCH, "split": TEST})
    chosen = _choose(compared, {"measure": measure})
    if chosen.empty and len(compared):
        raise ConfigError(
            f"evaluation.findings.pretraining_gain asks for {contrasts.describe(measure)}, which "
            "was not measured; choose a retrieval that evaluation/predictor_comparisons.csv holds."
        )
    for row in chosen.itertuples():
        name = (
            "finetuning after pretraining minus training from scratch (one training each, with "
            "equal steps but for those of pretraining) is above zero: "
            f"{contrasts.describe(measure)}"
        )
        yield claim(estimate_difference(row, name), above(0))


def observe_controls(predictors: pd.DataFrame, measure: str) -> Iterable[dict[str, Any]]:
    """By how much the decoders beat each control, or do not, each with a sentence.

    Args:
        predictors: table of ``contrasts.compare_predictors``.
        measure: what is told of validation images too.
    """
    for row in _over_subjects(predictors).itertuples():
        if row.measure in (measure, *TOLD) and (row.split == TEST or row.measure == measure):
            control = CONTROL_WORDS[row.second]
            name = f"decoder minus {control}, {row.split} images: {contrasts.describe(row.measure)}"
            observed = estimate_difference(row, name).observe()
            yield observed | {"sentence": tell_contrast(row), "about": DECODERS}


def _over_subjects(predictors: pd.DataFrame) -> pd.DataFrame:
    return predictors[predictors["subject"] == contrasts.ALL_SUBJECTS]


def tell_contrast(row: Any) -> str:
    """Whether the decoder beats a control, and by how much, as one sentence."""
    if row.low > 0:
        verdict = "beats"
    elif row.high < 0:
        verdict = "falls short of"
    else:
        verdict = "cannot be told from"
    ends = row.difference, row.low, row.high
    change = words.write_estimate(*ends, unit=row.unit, signed=True)
    means = [words.write_number(mean, unit=row.unit) for mean in (row.mean_first, row.mean_second)]
    return (
        f"The decoder {verdict} {CONTROL_WORDS[row.second]} in "
        f"{contrasts.describe(row.measure)}: {means[0]} against {means[1]}, "
        f"{change} ({row.n} {row.split} images)."
    )


def _with_limit(estimate: Estimate, limit: float | tuple[float, float]) -> Estimate:
    if isinstance(limit, tuple):
        promised = f"lies between {limit[0]:g} and {limit[1]:g}"
    else:
        promised = f"is at least {limit:g}"
    unit = "" if estimate.unit == "correlation" else f" {estimate.unit}"
    return replace(estimate, name=f"{estimate.name} {promised}{unit}")


def write_sentence(estimate: Estimate, holds: bool) -> str:
    """The claim, its verdict and its numbers as one sentence."""
    verdict = "holds" if holds else "does not hold"
    return f"{words.capitalise(estimate.name)} ({tell_numbers(estimate.observe())}): {verdict}."


def tell_numbers(entry: Mapping[str, Any]) -> str:
    """The numbers of a finding's entry: estimate, interval, n and, of a difference, p."""
    numbers = words.write_estimate(
        entry["estimate"], *entry["interval"], unit=entry["unit"], signed=entry["is_difference"]
    )
    unit = "" if entry["unit"] in words.PERCENT_UNITS else f" {entry['unit']}"
    told = f"{numbers}{unit}, n = {words.write_count(entry['n'], entry['counted'])}"
    return told if entry["p_holm"] is None else f"{told}, {words.write_p(entry['p_holm'])}"


def estimate_ground_truth(summary: pd.DataFrame) -> Iterable[Estimate]:
    """PixCorr of guided reconstructions from ground-truth embeddings."""
    chosen = summary.query("variant == @GROUND_TRUTH and subject == 'all' and metric == 'pixcorr'")
    for row in chosen.itertuples():
        name = "PixCorr of guided ground truth"
        yield Estimate(name, row.mean, row.low, row.high, row.n, row.unit)


def estimate_retrieval(tables: Mapping[str, pd.DataFrame]) -> Iterable[Estimate]:
    """Image retrieval by the vote of the guidance layers, in multiples of chance."""
    wanted = {"split": TEST, "predictor": DECODER, "output": "projection", "pool": DRAWN}
    wanted |= {"direction": "image", "method": VOTE}
    for subject, table in tables.items():
        for row in _choose(table, wanted).itertuples():
            accuracy, low, high = (
                value / row.chance for value in (row.accuracy, row.low, row.high)
            )
            name = f"image retrieval of {subject}"
            yield Estimate(name, accuracy, low, high, row.n, "times chance")


def estimate_guidance_features(tables: Mapping[str, pd.DataFrame]) -> Iterable[Estimate]:
    """Pearson r of decoded guidance features, over images, then dimensions, then layers."""
    yield from _estimate_decoding(tables, predictor=DECODER, name="decoded guidance features")


def estimate_mean_predictor(tables: Mapping[str, pd.DataFrame]) -> Iterable[Estimate]:
    """The same of a predictor that always says the mean feature."""
    name = "mean feature instead of decoded guidance features"
    yield from _estimate_decoding(tables, predictor=MEAN_FEATURE, name=name)


def _estimate_decoding(
    tables: Mapping[str, pd.DataFrame], *, predictor: str, name: str
) -> Iterable[Estimate]:
    wanted = {"split": TEST, "target": LAYER_MEAN, "measure": "pearson_dimensions"}
    for subject, table in tables.items():
        for row in _choose(table, wanted | {"predictor": predictor}).itertuples():
            title = f"Pearson r of {subject}'s {name}"
            yield Estimate(title, row.value, row.low, row.high, row.n, "correlation")


def _choose(table: pd.DataFrame, wanted: Mapping[str, str]) -> pd.DataFrame:
    """The rows whose columns have the wanted values."""
    chosen = np.logical_and.reduce([table[name] == value for name, value in wanted.items()])
    return table[chosen]


def estimate_noise_ceilings(
    ceilings: Mapping[str, np.ndarray], bootstrap: BootstrapSettings
) -> Iterable[Estimate]:
    """Mean noise ceiling of each subject's voxels, interval over voxels."""
    for subject, values in ceilings.items():
        found = bootstrap_mean(values.astype(np.float64), bootstrap)
        name = f"mean noise ceiling of {subject}'s voxels"
        ends = float(found.estimate), float(found.low), float(found.high)
        yield Estimate(name, *ends, len(values), "% of variance", counted="voxel")
