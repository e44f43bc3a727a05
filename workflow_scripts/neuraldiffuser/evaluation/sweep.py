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
from neuraldiffuser.evaluation.variants import GUIDED, UNGUIDED

SCALE, STRENGTH = "scale", "strength"
DETAIL, QUALITY, REPEATS = "detail", "quality", "repeats"
FEWEST = 2  # guided points that make a line
OWN = "own"  # features of the image itself; others guide the controls
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
    """The line with most places; among equals, the one at the largest other setting."""
    grows, stays = ("scale_factor", "strength") if axis == SCALE else ("strength", "scale_factor")
    lines = []
    for fixed in {getattr(variant, stays) for variant in variants.values()}:
        own, controls = {}, {}
        for name, variant in variants.items():
            place = getattr(variant, grows)
            if getattr(variant, stays) == fixed and variant.features == OWN:
                own[place] = name
            elif getattr(variant, stays) == fixed:
                controls[name] = place, variant.features
        lines.append(Line(axis, fixed, {0.0: UNGUIDED} | dict(sorted(own.items())), controls))
    return max(lines, key=lambda line: (len(line.variants), line.fixed))


def aspect_of(metric: Metric) -> str:
    """What a metric speaks for: detail, quality, likeness of repeats, or nothing of these."""
    if metric.kind == "brain":
        return ""
    if metric.kind == "repeats":
        return REPEATS
    return {"early": DETAIL, "late": QUALITY}.get(metric.level, "")


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


@dataclass(frozen=True)
class Course:
    """How one metric runs along a line.

    Attributes:
        label: the metric, and whether lower is better.
        best: its best point beside no guidance, or None where nothing is better than that.
        last: the last point beside no guidance.
        rises: the best point is measurably better than no guidance.
        falls: the last point is measurably worse than the best one.
        worse_from: place from which on it is measurably worse than without guidance, or None.
    """

    label: str
    best: pd.Series | None
    last: pd.Series
    rises: bool
    falls: bool
    worse_from: float | None


def follow(rows: pd.DataFrame) -> Course:
    """The course of one metric, from its rows on one line."""
    first = rows.iloc[0]
    sign = 1 if first["direction"] == "higher" else -1
    own = rows[rows["features"] == OWN]
    beside = own[own["reference_place"] == 0].sort_values("place")
    last = beside.iloc[-1]
    best = beside.loc[(sign * beside["difference"]).idxmax()]
    if sign * best["difference"] <= 0:
        best = None
    top = 0.0 if best is None else best["place"]
    fall = own[(own["place"] == last["place"]) & (own["reference_place"] == top)]
    return Course(
        label=first["label"] + ("" if sign > 0 else " (lower is better)"),
        best=best,
        last=last,
        rises=best is not None and _excludes_zero(best, sign),
        falls=len(fall) > 0 and _excludes_zero(fall.iloc[0], -sign),
        worse_from=_find_worse(beside, sign),
    )


def _excludes_zero(row: pd.Series, sign: int) -> bool:
    """Whether the interval lies wholly above zero (``sign`` 1) or below it (-1)."""
    return bool(row["low"] > 0 if sign > 0 else row["high"] < 0)


def _find_worse(beside: pd.DataFrame, sign: int) -> float | None:
    """The first place from which on every point is measurably worse than no guidance."""
    found = None
    for _, row in beside.iloc[::-1].iterrows():
        if not _excludes_zero(row, -sign):
            break
        found = float(row["place"])
    return found


@dataclass(frozen=True)
class Told:
    """A sentence about a line, and the row of its most telling difference."""

    sentence: str
    row: pd.Series


def tell_lines(sweep: pd.DataFrame) -> list[Told]:
    """For each line: whether detail rises and quality falls; then detail and quality by measure."""
    told = []
    for axis, rows in sweep.groupby("line", sort=False):
        courses = {
            aspect: [follow(part) for _, part in found.groupby("metric", sort=False)]
            for aspect, found in rows.groupby("aspect", sort=False)
        }
        detail, quality = courses.get(DETAIL, []), courses.get(QUALITY, [])
        if not detail or not quality:
            continue
        leading = detail[0].last if detail[0].best is None else detail[0].best
        told.append(Told(_judge(rows.iloc[0], detail, quality), leading))
        told.extend(
            Told(_tell_courses(name, axis, found), found[0].last)
            for name, found in (("Detail", detail), ("Quality", quality))
        )
    return told


def write_place(axis: str, place: float) -> str:
    """A place on a line: ``κ × 0.1`` or ``η 0.2``."""
    return f"κ × {place:g}" if axis == SCALE else f"η {place:g}"


def _judge(row: pd.Series, detail: list[Course], quality: list[Course]) -> str:
    """Whether a line shows what Table 2 shows, as two sentences."""
    other = STRENGTH if row["line"] == SCALE else SCALE
    grows = {SCALE: "guidance scale κ", STRENGTH: "guidance strength η"}[row["line"]]
    times = "× " if row["line"] == SCALE else ""
    rising = [course for course in detail if course.rises]
    again = [course for course in rising if course.falls]
    falling = [course for course in quality if course.falls]
    head = (
        f"As the {grows} grows to {times}{detail[0].last['place']:g} at "
        f"{write_place(other, row['fixed'])}, detail {_say('rises', 'rise', rising, detail)}"
    )
    end = f" and quality {_say('falls', 'fall', falling, quality)}"
    middle = f", {len(again)} of them only to fall again," if again else ""
    return f"{head}{middle}{end}. {_tell_departures(detail, quality)}"


def _say(does: str, do: str, those: list[Course], among: list[Course]) -> str:
    """``rises (4 of 4 measures)``; ``does not rise (0 of 4 measures)``."""
    counted = f"({len(those)} of {len(among)} measures)"
    if not those:
        return f"does not {do} measurably {counted}"
    part = "" if len(those) == len(among) else " in part"
    return f"{does}{part} {counted}"


def _tell_departures(detail: list[Course], quality: list[Course]) -> str:
    still = [f"{course.label} does not rise" for course in detail if not course.rises]
    still += [f"{course.label} does not fall" for course in quality if not course.falls]
    if not still:
        return "This is the pattern of the paper's Table 2."
    return f"It differs from the pattern of the paper's Table 2: {_join(still)} measurably."


def _tell_courses(aspect: str, axis: str, courses: list[Course]) -> str:
    """Every measure of an aspect, beside no guidance."""
    clauses = "; ".join(_tell_course(axis, course) for course in courses)
    return f"{aspect}, beside no guidance, as {'κ' if axis == SCALE else 'η'} grows: {clauses}."


def _tell_course(axis: str, course: Course) -> str:
    end = f"{_write_difference(course.last)} at {write_place(axis, course.last['place'])}"
    if course.rises:
        top = f"{_write_difference(course.best)} at {write_place(axis, course.best['place'])}"
        if course.falls:
            clause = f"{course.label} improves ({top}), then worsens ({end})"
        elif course.best["place"] == course.last["place"]:
            clause = f"{course.label} improves to the end ({end})"
        else:
            clause = f"{course.label} improves ({top}) and does not measurably worsen ({end})"
    elif course.falls:
        clause = f"{course.label} does not measurably improve and worsens ({end})"
    else:
        clause = f"{course.label} neither improves nor worsens measurably ({end})"
    if course.worse_from in (None, course.last["place"]):
        return clause
    return f"{clause}, worse than no guidance from {write_place(axis, course.worse_from)} on"


def _write_difference(row: pd.Series) -> str:
    value, low, high = (
        f"{row[name]:+.3f}".replace("-", "\N{MINUS SIGN}") for name in ("difference", "low", "high")
    )
    return f"{value} [{low}, {high}]"


def _join(words: list[str]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else words[0]
