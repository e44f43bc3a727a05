"""How reconstructions change as the guidance scale and strength grow: Table 2 as two lines.

Along one line the scale kappa grows at one strength, along the other the strength eta grows at one
scale; both begin without guidance. A scale is a multiple of that of the variant ``guided``.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pandas as pd

from neuraldiffuser.config.evaluation import BootstrapSettings, ComparisonSettings
from neuraldiffuser.config.reconstruction import Variant
from neuraldiffuser.evaluation.metrics import Metric
from neuraldiffuser.evaluation.summary import Values, compare
from neuraldiffuser.evaluation.variants import GUIDED, OWN, UNGUIDED

SCALE, STRENGTH = "scale", "strength"
DETAIL, CONTENT, QUALITY, REPEATS = "detail", "content", "quality", "repeats"
FEWEST = 2  # guided points that make a line
SWEEP = ["line", "fixed", "place", "variant", "features", "reference_place", "reference", "metric"]
SWEEP += ["label", "aspect", "difference", "low", "high", "n", "unit", "direction"]


@dataclass(frozen=True)
class Line:
    """Variants by the place at which they stand: what grows, and at which other setting.

    Attributes:
        axis: what grows, ``SCALE`` or ``STRENGTH``.
        fixed: the strength at which the scale grows, or the scale at which the strength grows.
        variants: by place, ascending, without guidance at 0.
        controls: the place of each variant that other features guide, and whose they are.
    """

    axis: str
    fixed: float
    variants: Mapping[float, str]
    controls: Mapping[str, tuple[float, str]]


def find_lines(variants: Mapping[str, Variant], measured: Iterable[str]) -> list[Line]:
    """The longest line over scales and the longest over strengths; those too short are left out.

    Args:
        variants: the variants of the configuration.
        measured: names of those that were evaluated.
    """
    here = set(measured)
    if not {GUIDED, UNGUIDED} <= here or GUIDED not in variants:
        return []
    swept = {
        name: variant
        for name, variant in variants.items()
        if name in here and _shares_scale(name, variant, variants[GUIDED])
    }
    lines = [_find_longest(axis, swept) for axis in (SCALE, STRENGTH)]
    return [line for line in lines if len(line.variants) > FEWEST]


def _shares_scale(name: str, variant: Variant, guided: Variant) -> bool:
    alike = (variant.guidance, variant.source) == (guided.guidance, guided.source)
    guides = variant.scale_factor > 0 and variant.strength > 0
    return guides and (name == GUIDED or (alike and variant.scale == GUIDED))


def _find_longest(axis: str, variants: Mapping[str, Variant]) -> Line:
    """The line with most places; among equals, the one at the largest other setting.

    Variants at one place have the same images: ``guided`` stands there, else the first.
    """
    grows, stays = ("scale_factor", "strength") if axis == SCALE else ("strength", "scale_factor")
    lines = []
    for fixed in {getattr(variant, stays) for variant in variants.values()}:
        own, controls = {}, {}
        for name, variant in sorted(variants.items(), key=lambda item: item[0] != GUIDED):
            place = getattr(variant, grows)
            if getattr(variant, stays) == fixed and variant.features == OWN:
                own.setdefault(place, name)
            elif getattr(variant, stays) == fixed:
                controls[name] = place, variant.features
        lines.append(Line(axis, fixed, {0.0: UNGUIDED} | dict(sorted(own.items())), controls))
    return max(lines, key=lambda line: (len(line.variants), line.fixed))


def aspect_of(metric: Metric) -> str:
    """What a metric speaks for, as Table 2 groups them; nothing of these for brain correlations,
    nor for conventions that tables do not show."""
    if metric.is_detail:
        return ""
    by_kind = {"brain": "", "repeats": REPEATS, "set": QUALITY}
    by_level = {"early": DETAIL, "late": CONTENT}
    return by_kind.get(metric.kind, by_level.get(metric.level, ""))


def compare_lines(
    values: Values,
    *,
    lines: Iterable[Line],
    metrics: Mapping[str, Metric],
    bootstrap: BootstrapSettings,
) -> pd.DataFrame:
    """Paired differences along each line: of every point to no guidance and to the point before,
    of the last point to every other, and of every control to no guidance.

    Args:
        values: by variant and subject, one row per image, averaged over repeats.
        lines: from ``find_lines``.
        metrics: level, unit and direction of every metric.
        bootstrap: draws, level and seed.

    Raises:
        DataError: two variants were measured on different images.
    """
    aspects = {name: aspect_of(metric) for name, metric in metrics.items()}
    parts = [pd.DataFrame(columns=SWEEP)]
    for line in lines:
        for place, reference_place in _list_pairs(line):
            pairs = _name_pairs(line, place, reference_place)
            found = compare(values, comparisons=pairs, metrics=metrics, bootstrap=bootstrap)
            parts.append(
                found.rename(columns={"variant_a": "variant", "variant_b": "reference"}).assign(
                    line=line.axis,
                    fixed=line.fixed,
                    place=place,
                    features=[_features_of(name, line) for name in found["variant_a"]],
                    reference_place=reference_place,
                    aspect=found["metric"].map(aspects),
                )
            )
    table = pd.concat([part for part in parts if len(part)] or parts, ignore_index=True)
    return table.loc[table["aspect"] != "", SWEEP].reset_index(drop=True)


def _list_pairs(line: Line) -> list[tuple[float, float]]:
    """Places that are compared, each with its reference."""
    places = list(line.variants)
    to_none = [(place, 0.0) for place in places[1:]]
    to_previous = list(zip(places[2:], places[1:], strict=False))
    to_last = [(places[-1], place) for place in places[:-1]]
    return list(dict.fromkeys([*to_none, *to_previous, *to_last]))


def _name_pairs(line: Line, place: float, reference_place: float) -> dict[str, ComparisonSettings]:
    """The variants at two places; beside no guidance, the controls at that place too."""
    names = [line.variants[place]]
    if reference_place == 0:
        names += [name for name, (at, _) in line.controls.items() if at == place]
    second = line.variants[reference_place]
    return {name: ComparisonSettings(first=name, second=second) for name in names}


def _features_of(name: str, line: Line) -> str:
    return line.controls[name][1] if name in line.controls else OWN
