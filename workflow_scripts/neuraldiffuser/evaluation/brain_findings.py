"""What brain correlations and encoding models must show, judged by their numbers alone."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import pandas as pd

from neuraldiffuser import words
from neuraldiffuser.config.evaluation import (
    BootstrapSettings,
    ComparisonSettings,
    FindingSettings,
)
from neuraldiffuser.config.reconstruction import STIMULUS
from neuraldiffuser.evaluation.findings import (
    Estimate,
    above,
    at_least,
    claim,
    estimate_difference,
)
from neuraldiffuser.evaluation.metrics import AREAS, EARLY_AREAS, METRICS, OVER_IMAGES, brain_metric
from neuraldiffuser.evaluation.summary import Values, adjust_families, choose_conventions, compare

OF_CEILING = METRICS[brain_metric(EARLY_AREAS[0], OVER_IMAGES, of_ceiling=True)].unit


def compare_with_stimuli(
    values: Values, *, direction: str, bootstrap: BootstrapSettings
) -> pd.DataFrame:
    """Stimuli minus every variant, image by image, in the brain correlation that tables show.

    Args:
        values: by variant and subject, brain correlations per image, averaged over repeats.
        direction: of the brain correlations that tables show.
        bootstrap: draws, level and seed.

    Returns:
        Table of ``summary.compare``, p adjusted over the areas of each comparison.
    """
    names = {brain_metric(area): brain_metric(area, direction) for area in AREAS}
    metrics = {name: METRICS[name] for name in names}
    chosen = {
        key: choose_conventions(table, names).filter(list(names)) for key, table in values.items()
    }
    others = dict.fromkeys(variant for variant, _ in values if variant != STIMULUS)
    pairs = {
        f"{STIMULUS}_minus_{variant}": ComparisonSettings(first=STIMULUS, second=variant)
        for variant in others
    }
    found = compare(chosen, comparisons=pairs, metrics=metrics, bootstrap=bootstrap)
    return adjust_families(found, metrics=metrics)


def build_brain_findings(
    *,
    comparisons: pd.DataFrame,
    accuracy: Mapping[str, pd.DataFrame],
    guided_by_encoder: Collection[str],
    settings: FindingSettings,
) -> dict[str, list[dict[str, Any]]]:
    """Claims with ``holds`` and a sentence, and observations without.

    Args:
        comparisons: table of ``compare_with_stimuli``.
        accuracy: by subject, the table of ``evaluate_encoder``.
        guided_by_encoder: variants that the encoder guided; nothing bounds those.
        settings: the share of the ceiling that the encoders must reach.
    """
    claims = [
        claim(estimate, above(0))
        for estimate in estimate_upper_bound(comparisons, guided_by_encoder)
    ]
    limit, observations = settings.encoder_of_ceiling, []
    for estimate in estimate_encoders(accuracy, limit):
        if limit is None:
            observations.append(estimate.observe())
        else:
            claims.append(claim(estimate, at_least(limit)))
    return {"claims": claims, "observations": observations}


def estimate_upper_bound(
    comparisons: pd.DataFrame, guided_by_encoder: Collection[str]
) -> Iterable[Estimate]:
    """In each early area, the stimulus minus the reconstructions that come closest to it.

    The difference with the lowest bound is told, so the claim is one about every variant.
    """
    bounded = comparisons[~comparisons["variant_b"].isin(list(guided_by_encoder))]
    for area in EARLY_AREAS:
        rows = bounded[bounded["metric"] == brain_metric(area)]
        if len(rows):
            row = rows.loc[rows["low"].idxmin()]
            name = (
                "brain correlation of the stimulus minus that of "
                f"{words.write_name(row['variant_b'])}, the nearest of {len(rows)} variants, is "
                f"above zero: {row['label']}"
            )
            yield estimate_difference(row, name)


def estimate_encoders(
    accuracy: Mapping[str, pd.DataFrame], limit: float | None
) -> Iterable[Estimate]:
    """What share of the noise ceiling each subject's encoder reaches in the early areas."""
    needed = "" if limit is None else f" is at least {words.write_number(limit, unit=OF_CEILING)}"
    for subject, table in accuracy.items():
        chosen = table[(table["split"] == "test") & table["area"].isin(EARLY_AREAS)]
        for row in chosen.itertuples():
            name = f"accuracy of {subject}'s encoder in {row.area}{needed} of the noise ceiling"
            ends = row.fraction, row.low, row.high, row.voxels
            yield Estimate(name, *ends, OF_CEILING, counted="voxel")
