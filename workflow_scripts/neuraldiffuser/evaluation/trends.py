"""How measures run along the lines of the sweep, and what is said of it: by the numbers alone."""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from neuraldiffuser import words
from neuraldiffuser.evaluation.sweep import CONTENT, DETAIL, QUALITY, SCALE, STRENGTH
from neuraldiffuser.evaluation.variants import OWN


@dataclass(frozen=True)
class Trend:
    """How one metric runs along a line.

    Attributes:
        label: the metric, and whether lower is better.
        best: its best point beside no guidance, or None where nothing is better than that.
        last: the last point beside no guidance.
        fall: the last point beside the best one, which may be no guidance; None where it is best.
        rises: the best point is measurably better than no guidance.
        falls: the last point is measurably worse than the best one.
        worse_from: place from which on it is measurably worse than without guidance, or None.
    """

    label: str
    best: pd.Series | None
    last: pd.Series
    fall: pd.Series | None
    rises: bool
    falls: bool
    worse_from: float | None

    @property
    def best_or_last(self) -> pd.Series:
        """The best point; the last where nothing is better than no guidance."""
        return self.last if self.best is None else self.best


def follow(rows: pd.DataFrame) -> Trend:
    """The trend of one metric, from its rows on one line."""
    first = rows.iloc[0]
    sign = 1 if first["direction"] == "higher" else -1
    own = rows[rows["features"] == OWN]
    beside = own[own["reference_place"] == 0].sort_values("place")
    last = beside.iloc[-1]
    best = beside.loc[(sign * beside["difference"]).idxmax()]
    if sign * best["difference"] <= 0:
        best = None
    top = 0.0 if best is None else best["place"]
    falls = own[(own["place"] == last["place"]) & (own["reference_place"] == top)]
    fall = falls.iloc[0] if len(falls) else None
    return Trend(
        label=first["label"] + ("" if sign > 0 else " (lower is better)"),
        best=best,
        last=last,
        fall=fall,
        rises=best is not None and _excludes_zero(best, sign),
        falls=fall is not None and _excludes_zero(fall, -sign),
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
    """For each line: whether detail rises and quality falls; then every aspect by measure."""
    told = []
    for axis, rows in sweep.groupby("line", sort=False):
        trends = {
            aspect: [follow(part) for _, part in found.groupby("metric", sort=False)]
            for aspect, found in rows.groupby("aspect", sort=False)
        }
        detail = trends[DETAIL][0]
        told.append(Told(_judge(rows.iloc[0], trends), detail.best_or_last))
        told.extend(
            Told(_tell_trends(aspect, axis, trends[aspect]), trends[aspect][0].last)
            for aspect in (DETAIL, CONTENT, QUALITY)
            if aspect in trends
        )
    return told


def write_place(axis: str, place: float) -> str:
    """A place on a line: ``κ × 0.1`` or ``η 0.2``."""
    return f"κ × {place:g}" if axis == SCALE else f"η {place:g}"


def _judge(row: pd.Series, trends: Mapping[str, list[Trend]]) -> str:
    """Whether a line shows what Table 2 shows, as two sentences."""
    detail, quality = trends[DETAIL], trends.get(QUALITY, [])
    grows = {SCALE: "guidance scale κ", STRENGTH: "guidance strength η"}[row["line"]]
    other, times = (STRENGTH, "× ") if row["line"] == SCALE else (SCALE, "")
    judged = [_judge_detail(detail)]
    if CONTENT in trends:
        judged.append(_judge_content(trends[CONTENT]))
    if quality:
        judged.append(_judge_quality(quality))
    return (
        f"As the {grows} grows to {times}{detail[0].last['place']:g} at "
        f"{write_place(other, row['fixed'])}: {'; '.join(judged)}. "
        f"{_tell_departures(detail, quality)}"
    )


def _judge_detail(trends: list[Trend]) -> str:
    rising = [trend for trend in trends if trend.rises]
    again = [trend for trend in rising if trend.falls]
    verb = "falls" if len(again) == 1 else "fall"
    counted = _count(rising, trends) + (f", {len(again)} of them {verb} again" if again else "")
    return f"detail {_say('rises', 'rise', rising, trends)} ({counted})"


def _judge_quality(trends: list[Trend]) -> str:
    falling = [trend for trend in trends if trend.falls]
    return f"quality {_say('falls', 'fall', falling, trends)} ({_count(falling, trends)})"


def _judge_content(trends: list[Trend]) -> str:
    better, worse = (sum(getattr(trend, which) for trend in trends) for which in ("rises", "falls"))
    return f"content improves in {better} and worsens in {worse} of {_count_all(trends)}"


def _count(those: list[Trend], among: list[Trend]) -> str:
    return f"{len(those)} of {_count_all(among)}"


def _count_all(trends: list[Trend]) -> str:
    return f"{len(trends)} measure{'' if len(trends) == 1 else 's'}"


def _say(does: str, do: str, those: list[Trend], among: list[Trend]) -> str:
    """``rises``, ``rises in part`` or ``does not rise measurably``."""
    if not those:
        return f"does not {do} measurably"
    return does if len(those) == len(among) else f"{does} in part"


def _tell_departures(detail: list[Trend], quality: list[Trend]) -> str:
    """Whether detail rises and quality falls, as in Table 2, or what does not."""
    still = [f"{trend.label} does not rise" for trend in detail if not trend.rises]
    still += [f"{trend.label} does not fall" for trend in quality if not trend.falls]
    if still:
        return f"It differs from the paper's Table 2: {words.join_words(still)} measurably."
    if not quality:
        return "So detail behaves as in the paper's Table 2; quality was not measured by image."
    return "This is the pattern of the paper's Table 2: detail rises, quality falls."


def _tell_trends(aspect: str, axis: str, trends: list[Trend]) -> str:
    """Every measure of an aspect, beside no guidance."""
    clauses = "; ".join(_tell_trend(axis, trend) for trend in trends)
    grows = "κ" if axis == SCALE else "η"
    return f"{aspect.capitalize()}, beside no guidance, as {grows} grows: {clauses}."


def _tell_trend(axis: str, trend: Trend) -> str:
    end = f"{_write_difference(trend.last)} at {write_place(axis, trend.last['place'])}"
    if trend.rises:
        top = f"{_write_difference(trend.best)} at {write_place(axis, trend.best['place'])}"
        if trend.falls:
            clause = f"{trend.label} improves ({top}), then worsens ({end})"
        elif trend.best["place"] == trend.last["place"]:
            clause = f"{trend.label} improves to the end ({end})"
        else:
            clause = f"{trend.label} improves ({top}) and does not measurably worsen ({end})"
    elif trend.falls and trend.best is None:
        clause = f"{trend.label} does not improve and worsens ({end})"
    elif trend.falls:
        change = f"{_write_difference(trend.fall)} from {write_place(axis, trend.best['place'])}"
        clause = f"{trend.label} does not measurably improve, then worsens ({change} on; {end})"
    else:
        clause = f"{trend.label} neither improves nor worsens measurably ({end})"
    if trend.worse_from in (None, trend.last["place"]):
        return clause
    return f"{clause}, worse than no guidance from {write_place(axis, trend.worse_from)} on"


def _write_difference(row: pd.Series) -> str:
    ends = row["difference"], row["low"], row["high"]
    return words.write_estimate(*ends, unit=row["unit"], signed=True)
