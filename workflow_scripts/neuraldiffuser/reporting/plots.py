"""Draws tables of numbers; computes none. Every function returns the axes it drew on."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from neuraldiffuser.reporting.labels import label_predictor, label_variant
from neuraldiffuser.reporting.style import (
    BLUE,
    DECODER_LOOK,
    GREY,
    INK,
    MUTED,
    PAPER,
    PREDICTOR_LOOKS,
    RULE,
    SUBJECT_MARKERS,
    VIOLET,
    WASH,
    say_no_data,
)

STAGE_LOOKS = {
    "pretrained": {"color": GREY, "label": "pretraining (other subjects)"},
    "finetuned": {"color": BLUE, "label": "finetuning (this subject)"},
    "scratch": {"color": VIOLET, "label": "from scratch (this subject)"},
}
SERIES_LOOKS = {
    "loss": {"linestyle": "-", "label": "loss"},
    "contrastive": {"linestyle": (0, (5, 1.5)), "label": "contrastive part"},
    "prior": {"linestyle": (0, (1, 1.2)), "label": "prior's part, unweighted"},
    "l1": {"linestyle": (0, (5, 1.5, 1, 1.5)), "label": "L1 part"},
}
LINEAR = 1.0  # decoding performance is drawn linearly to here, and R^2 has no lower end
DIFFERENCE = "paired difference (of shares: 0.01 is one point)"


def plot_differences(data: pd.DataFrame, *, ax: Axes, colours: Mapping[str, str]) -> Axes:
    """Paired differences with intervals: a row per metric, a point per comparison, zero marked.

    Args:
        data: columns label, comparison, difference, low, high.
        ax: where to draw.
        colours: a colour per comparison, in drawing order.
    """
    if data.empty:
        return say_no_data(ax, "no pair of variants has been compared")
    labels = list(dict.fromkeys(data["label"]))
    spread = np.linspace(-0.26, 0.26, len(colours)) if len(colours) > 1 else [0.0]
    for row in range(0, len(labels), 2):
        ax.axhspan(row - 0.5, row + 0.5, color=WASH, linewidth=0)
    ax.axvline(0, color=INK, linewidth=0.9)
    for shift, (comparison, colour) in zip(spread, colours.items(), strict=True):
        part = data[data["comparison"] == comparison]
        heights = [labels.index(label) + shift for label in part["label"]]
        _draw_intervals(
            ax,
            part["difference"],
            heights,
            low=part["low"],
            high=part["high"],
            color=colour,
            label=comparison,
        )
    ax.set_yticks(range(len(labels)), labels)
    ax.set_ylim(len(labels) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    return ax


def _draw_intervals(
    ax: Axes,
    centres: Sequence[float],
    heights: Sequence[float],
    *,
    low: Sequence[float],
    high: Sequence[float],
    color: str,
    label: str | None = None,
) -> None:
    ax.hlines(heights, low, high, color=color, linewidth=1.8)
    ax.plot(centres, heights, "o", color=color, markersize=5.2, label=label, clip_on=False)


def plot_variants(
    data: pd.DataFrame, *, ax: Axes, colours: Mapping[str, str], markers: Mapping[str, str]
) -> Axes:
    """One metric: a row per variant; the mean over subjects with its interval, subjects faintly.

    Args:
        data: columns variant, subject ("all" or a subject), mean, low, high.
        ax: where to draw.
        colours: a colour per variant, top to bottom.
        markers: a marker per subject.
    """
    if data.empty:
        return say_no_data(ax, "not measured")
    variants = list(colours)
    height = {name: row for row, name in enumerate(variants)}
    for subject, marker in markers.items():
        part = data[data["subject"] == subject]
        rows = [height[name] + 0.24 for name in part["variant"]]
        ax.plot(part["mean"], rows, marker, color=MUTED, alpha=0.75, markersize=3.4, linewidth=0)
    total = data[data["subject"] == "all"]
    for row in total.itertuples():
        _draw_intervals(
            ax,
            [row.mean],
            [height[row.variant]],
            low=[row.low],
            high=[row.high],
            color=colours[row.variant],
        )
    ax.set_yticks(range(len(variants)), [label_variant(name) for name in variants])
    ax.set_ylim(len(variants) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="x")
    return ax


def plot_sweep(data: pd.DataFrame, *, ax: Axes, colour: str, looks: Mapping[str, Mapping]) -> Axes:
    """One metric along a line of growing guidance, beside no guidance; upwards is better.

    Args:
        data: columns position (on the horizontal axis), features, difference, low, high, direction.
        ax: where to draw.
        colour: of the points that the image's own features guide.
        looks: marker and colour of the points that other features guide.
    """
    own = data[data["features"] == "own"].sort_values("position")
    ax.axhline(0, color=INK, linewidth=0.9)
    ax.plot([0, *own["position"]], [0, *own["difference"]], color=colour, linewidth=1.2, alpha=0.6)
    ax.vlines(own["position"], own["low"], own["high"], color=colour, linewidth=1.8)
    ax.plot(own["position"], own["difference"], "o", color=colour, markersize=4.6)
    for features, look in looks.items():
        part = data[data["features"] == features]
        places = part["position"] + look["shift"]
        ax.vlines(places, part["low"], part["high"], color=look["color"], linewidth=1.4)
        ax.plot(
            places,
            part["difference"],
            look["marker"],
            color=look["color"],
            markersize=4.6,
            markeredgecolor=PAPER,
            markeredgewidth=0.5,
        )
    if (data["direction"] == "lower").any() and not ax.yaxis_inverted():
        ax.invert_yaxis()
    ax.margins(x=0.05)
    ax.grid(axis="y")
    ax.locator_params(axis="y", nbins=4)
    return ax


def plot_decoding(data: pd.DataFrame, *, ax: Axes, colours: Mapping[str, str]) -> Axes:
    """Bars per target and subject with deviations, and marks of what others score.

    Args:
        data: columns label (of the target), subject, value, std, and one per other predictor.
        ax: where to draw; below ``-LINEAR`` it is logarithmic, so that all values are seen.
        colours: a colour per subject.
    """
    if data.empty:
        return say_no_data(ax, "no decoder has been evaluated")
    targets = list(dict.fromkeys(data["label"]))
    others = [name for name in PREDICTOR_LOOKS if name in data and data[name].notna().any()]
    width = 0.8 / len(colours)
    for number, (subject, colour) in enumerate(colours.items()):
        part = data[data["subject"] == subject].set_index("label").reindex(targets)
        places = np.arange(len(targets)) + (number - (len(colours) - 1) / 2) * width
        ax.bar(places, part["value"], width=width * 0.9, color=colour, label=subject)
        ax.errorbar(places, part["value"], yerr=part["std"], fmt="none", ecolor=INK, elinewidth=0.7)
        for name in others:
            _mark_predictor(ax, places, part[name], name=name, labelled=number == 0)
    _show_all(ax, data[["value", *others]].to_numpy(float))
    ax.axhline(0, color=MUTED, linewidth=0.7)
    ax.set_xticks(range(len(targets)), targets)
    ax.tick_params(axis="x", length=0)
    ax.grid(axis="y")
    return ax


def _show_all(ax: Axes, values: np.ndarray) -> None:
    """Limits that hold every bar and mark, up to 1; deviations may go further."""
    low, high = ax.get_ylim()
    lowest = np.nanmin(values)
    if lowest >= -LINEAR:
        ax.set_ylim(max(low, -LINEAR), min(high, 1.0))
        return
    ax.set_yscale("symlog", linthresh=LINEAR, linscale=0.8)
    ticks = [-100, -50, -20, -10, -5, -2, -1, -0.5, 0, 0.5, 1]
    ax.set_ylim(1.4 * lowest, 1.0)
    ax.set_yticks([tick for tick in ticks if tick >= 1.4 * lowest])
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}".replace("-", "−")))
    ax.yaxis.set_minor_formatter(NullFormatter())


def _mark_predictor(
    ax: Axes, places: Sequence[float], values: Sequence[float], *, name: str, labelled: bool
) -> None:
    """One predictor's marks: a tick for the mean feature, ringed in white for the others."""
    look = PREDICTOR_LOOKS[name]
    ring = (
        {"markeredgewidth": 2.4}
        if look["marker"] == "_"
        else {"markeredgecolor": PAPER, "markeredgewidth": 0.6}
    )
    size = 11 if look["marker"] == "_" else 6
    ax.plot(
        places,
        values,
        linewidth=0,
        markersize=size,
        label=label_predictor(name) if labelled else None,
        **look,
        **ring,
    )


def plot_retrieval(data: pd.DataFrame, *, ax: Axes) -> Axes:
    """Retrieval accuracy: a row per method, a point with interval per predictor, chance dashed.

    Args:
        data: columns method, predictor, mean, low, high, chance.
        ax: where to draw.
    """
    if data.empty:
        return say_no_data(ax, "no retrieval has been evaluated")
    methods = list(dict.fromkeys(data["method"]))
    looks = {"decoder": DECODER_LOOK} | PREDICTOR_LOOKS
    shown = [name for name in looks if name in set(data["predictor"])]
    spread = np.linspace(-0.24, 0.24, len(shown)) if len(shown) > 1 else [0.0]
    for row in range(0, len(methods), 2):
        ax.axhspan(row - 0.5, row + 0.5, color=WASH, linewidth=0)
    for shift, name in zip(spread, shown, strict=True):
        part = data[data["predictor"] == name]
        rows = [methods.index(method) + shift for method in part["method"]]
        ax.hlines(rows, part["low"], part["high"], color=looks[name]["color"], linewidth=1.5)
        ax.plot(
            part["mean"],
            rows,
            linewidth=0,
            markersize=4.6,
            label=label_predictor(name),
            clip_on=False,
            **looks[name],
        )
    ax.axvline(data["chance"].iloc[0], color=MUTED, linestyle=(0, (4, 3)), label="chance")
    ax.set_xlim(0, 100)
    ax.set_yticks(range(len(methods)), methods)
    ax.set_ylim(len(methods) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="x")
    return ax


def plot_histogram(data: pd.DataFrame, *, ax: Axes, colours: Mapping[str, str]) -> Axes:
    """Counts per bin as steps, one line per subject, the mean marked on the axis.

    Args:
        data: columns subject, low, high (edges of a bin), voxels (count), mean (of the subject).
        ax: where to draw.
        colours: a colour per subject.
    """
    if data.empty:
        return say_no_data(ax, "no voxels have been prepared")
    for subject, colour in colours.items():
        part = data[data["subject"] == subject]
        edges = [*part["low"], part["high"].iloc[-1]]
        ax.stairs(part["voxels"], edges, color=colour, linewidth=1.5, label=subject)
        ax.stairs(part["voxels"], edges, color=colour, alpha=0.08, fill=True)
        ax.axvline(part["mean"].iloc[0], color=colour, linewidth=1, linestyle=(0, (4, 3)))
    ax.set_ylim(bottom=0)
    ax.grid(axis="y")
    return ax


def plot_regions(
    data: pd.DataFrame, *, ax: Axes, colours: Mapping[str, str], markers: Mapping[str, str]
) -> Axes:
    """A value per region of the cortex: a column per region, a point with interval per series.

    Args:
        data: columns region, series, subject, value, low, high (NaN where there is no interval).
        ax: where to draw.
        colours: a colour per series.
        markers: a marker per subject.
    """
    if data.empty:
        return say_no_data(ax, "no brain correlation has been measured")
    regions = list(dict.fromkeys(data["region"]))
    spread = np.linspace(-0.3, 0.3, len(colours)) if len(colours) > 1 else [0.0]
    for column in range(0, len(regions), 2):
        ax.axvspan(column - 0.5, column + 0.5, color=WASH, linewidth=0)
    for shift, (series, colour) in zip(spread, colours.items(), strict=True):
        part = data[data["series"] == series]
        places = np.array([regions.index(region) + shift for region in part["region"]])
        ax.vlines(places, part["low"], part["high"], color=colour, linewidth=1.8)
        for subject, marker in markers.items():
            chosen = (part["subject"] == subject).to_numpy()
            ax.plot(places[chosen], part["value"][chosen], marker, color=colour, markersize=4.8)
        ax.plot([], [], "o", color=colour, label=series)
    ax.set_xticks(range(len(regions)), regions)
    ax.set_xlim(-0.5, len(regions) - 0.5)
    ax.tick_params(axis="x", length=0)
    ax.grid(axis="y")
    return ax


def plot_curves(data: pd.DataFrame, *, ax: Axes) -> Axes:
    """Curves over steps: a colour per stage, a line style per series, a line per subject.

    Args:
        data: columns subject, stage, series, step, value.
        ax: where to draw.
    """
    if data.empty:
        return say_no_data(ax, "no training curve")
    for (_, stage, series), part in data.groupby(["subject", "stage", "series"], sort=True):
        style = SERIES_LOOKS.get(series, {}).get("linestyle", "-")
        colour = STAGE_LOOKS[stage]["color"]
        ax.plot(
            part["step"], part["value"], color=colour, linestyle=style, linewidth=1.1, alpha=0.85
        )
    ax.grid(axis="y", color=RULE)
    ax.locator_params(axis="x", nbins=4)
    return ax


def scale_logarithmically(ax: Axes) -> None:
    """A logarithmic vertical axis with plain numbers: 1, 2, 5, 10, ..."""
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=12))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())


def curve_handles(data: pd.DataFrame) -> list[Line2D]:
    """Legend of the curves: stages by colour, then series by line style."""
    stages = [look for stage, look in STAGE_LOOKS.items() if stage in set(data["stage"])]
    series = [look for name, look in SERIES_LOOKS.items() if name in set(data["series"])]
    return [
        *(Line2D([], [], **look) for look in stages),
        *(Line2D([], [], color=INK, **look) for look in series),
    ]


def subject_markers(subjects: Sequence[str]) -> dict[str, str]:
    """A marker per subject."""
    return {name: SUBJECT_MARKERS[i % len(SUBJECT_MARKERS)] for i, name in enumerate(subjects)}
