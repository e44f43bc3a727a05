"""What guidance gains, beside what features gain that do not belong to the image."""

from collections.abc import Iterable, Mapping

import pandas as pd

from neuraldiffuser.config.evaluation import BootstrapSettings, ComparisonSettings
from neuraldiffuser.config.reconstruction import Variant
from neuraldiffuser.evaluation.metrics import Metric
from neuraldiffuser.evaluation.summary import Values, adjust_families, compare
from neuraldiffuser.evaluation.variants import OWN

GAINS = ["of", "variant", "features", "reference", "metric", "label", "difference", "low", "high"]
GAINS += ["n", "p_value", "unit", "direction", "p_holm"]


def find_controls(variants: Mapping[str, Variant], measured: Iterable[str]) -> dict[str, list[str]]:
    """By variant that its images' own features guide: those that others guide just so.

    A control has the same source, strength, guidance functions and scales. A variant without any
    is left out.

    Args:
        variants: the resolved variants of the configuration.
        measured: names of those that were evaluated.
    """
    guided = [name for name in dict.fromkeys(measured) if name in variants and variants[name].terms]
    own = [name for name in guided if variants[name].features == OWN]
    found = {
        name: [
            other
            for other in guided
            if variants[other].features != OWN
            and _list_guides(other, variants) == _list_guides(name, variants)
        ]
        for name in own
    }
    return {name: controls for name, controls in found.items() if controls}


def _list_guides(name: str, variants: Mapping[str, Variant]) -> tuple:
    """All that guides a variant but the features; a scale of auto is known by whose it is."""
    variant = variants[name]
    scales = {
        function: (name if term.scale == "auto" else term.scale, term.scale_factor)
        for function, term in variant.terms.items()
    }
    return variant.source, variant.strength, scales


def compare_with_controls(
    values: Values,
    *,
    variants: Mapping[str, Variant],
    metrics: Mapping[str, Metric],
    bootstrap: BootstrapSettings,
) -> pd.DataFrame:
    """Paired differences to no guidance of every variant that has controls, and of these.

    The p of each of them is adjusted over its own metrics. Column ``of`` names the variant,
    ``variant`` itself or its control, ``features`` whose features guide that, ``reference`` the
    variant of the same source without guidance, if it was evaluated.

    Args:
        values: by variant and subject, one row per image, averaged over repeats.
        variants: the resolved variants of the configuration.
        metrics: unit and direction of every metric.
        bootstrap: draws, level and seed.

    Raises:
        DataError: two variants were measured on different images.
    """
    measured = [name for name, _ in values]
    unguided = {
        variants[name].source: name
        for name in measured
        if name in variants and not variants[name].terms
    }
    parts = [pd.DataFrame(columns=GAINS)]
    for name, controls in find_controls(variants, measured).items():
        reference = unguided.get(variants[name].source)
        if reference is None:
            continue
        pairs = {
            each: ComparisonSettings(first=each, second=reference) for each in (name, *controls)
        }
        found = compare(values, comparisons=pairs, metrics=metrics, bootstrap=bootstrap)
        found = adjust_families(found, metrics=metrics)
        found = found.rename(columns={"variant_a": "variant", "variant_b": "reference"})
        features = found["variant"].map(lambda each: variants[each].features)
        parts.append(found.assign(of=name, features=features)[GAINS])
    return pd.concat([part for part in parts if len(part)] or parts, ignore_index=True)
