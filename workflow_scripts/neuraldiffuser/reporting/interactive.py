"""Plots of the report that answer to the mouse: drawn by plotly from a figure's plotted rows.

Each is what plotly calls a figure, as plain data: ``{"data": traces, "layout": ...}``. The picture
(PNG) of the same rows stands in for it where scripts do not run, and in print.
"""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from neuraldiffuser import storage, words
from neuraldiffuser.reporting import labels, plots, style
from neuraldiffuser.reporting.sweep_figures import ASPECTS, CONTROL_LABELS, CONTROLS

Trace = dict[str, Any]
Panel = tuple[str, list[Trace]]

DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")  # subject by subject
SINGLE_SUBJECTS = "single subjects"
WHOLE_CURVES = ("loss", "learning_rate")  # others are parts of the loss
MOST_POINTS = 300  # of a curve
TITLE, BETWEEN = 26, 46  # pixels over and below a panel
LEGEND_LINE, NAMES_IN_A_LINE = 28, 4  # pixels; as many names fit on a narrow plot
SIDE = 0.05  # between panels beside each other, of the width


def plot_figure(
    name: str, path_to_data: Path, headings: Mapping[str, str]
) -> dict[str, Any] | None:
    """The plot of a figure's rows; None where there is no such plot, or nothing to plot.

    Args:
        name: of the figure.
        path_to_data: its plotted rows (CSV).
        headings: of the metrics.
    """
    if name not in PLOTS:
        return None
    data = storage.read_table(path_to_data)
    if data.empty or "pending" in data:
        return None
    if "metric" in data:
        data = data.assign(heading=data["metric"].map(headings).fillna(data["metric"]))
    return PLOTS[name](data)


def plot_differences(data: pd.DataFrame) -> dict[str, Any]:
    """A panel per metric, a point with its interval per comparison."""
    panels = _list_panels(data, panel="label", series="comparison", value="difference")
    return _lay_out_points(panels, names=dict.fromkeys(data["comparison"]), zero=True)


def plot_metrics(data: pd.DataFrame) -> dict[str, Any]:
    """A panel per metric: a point with its interval per variant, small marks for its subjects."""
    data = data.dropna(subset=["mean"])
    whole = data[data["subject"] == "all"]
    panels = _list_panels(whole, panel="heading", series="label", value="mean")
    alone = labels.scale(data[data["subject"] != "all"], ["mean"])
    for (_, traces), metric in zip(panels, dict.fromkeys(whole["metric"]), strict=True):
        rows = alone[alone["metric"] == metric]
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": rows["mean"].tolist(),
                "y": rows["label"].tolist(),
                "text": rows["subject"].tolist(),
                "hovertemplate": "%{text}: %{x:.4g}<extra></extra>",
                "name": SINGLE_SUBJECTS,
                "legendgroup": SINGLE_SUBJECTS,
                "marker": {"size": 6, "color": style.MUTED, "symbol": "circle-open"},
            }
        )
    return _lay_out_points(panels, names=dict.fromkeys(whole["label"]), zero=False)


def _list_panels(data: pd.DataFrame, *, panel: str, series: str, value: str) -> list[Panel]:
    """A panel per metric that has values; shares in percent, their differences in points."""
    signed = value == "difference"
    data = data.dropna(subset=[value])
    shown = labels.scale(data, [value, "low", "high"])
    hover = [_tell(row, getattr(row, value), signed=signed) for row in data.itertuples()]
    shown = shown.assign(hover=hover)
    return [
        (
            str(title) + words.name_scale(rows["unit"].iloc[0], signed=signed),
            [
                {
                    "type": "scatter",
                    "mode": "markers",
                    "x": [getattr(row, value)],
                    "y": [getattr(row, series)],
                    "error_x": _interval(row, getattr(row, value)),
                    "hovertemplate": row.hover,
                    **_look(getattr(row, series), row.colour),
                }
                for row in rows.itertuples()
            ],
        )
        for title, rows in shown.groupby(panel, sort=False)
    ]


def _lay_out_points(panels: list[Panel], *, names: Iterable[str], zero: bool) -> dict[str, Any]:
    """The panels, with a line for each name from top to bottom."""
    names = list(names)
    axes = {
        "yaxis": {"showticklabels": False, "categoryorder": "array", "categoryarray": names[::-1]},
        "xaxis": {"zeroline": zero, "zerolinecolor": style.MUTED, "nticks": 5},
    }
    return lay_out(panels, columns=3, height=30 + 20 * len(names), axes=axes)


def plot_sweep(data: pd.DataFrame) -> dict[str, Any]:
    """A row of panels per metric, a column per line of the sweep; controls as points of their own.

    Up is better: where lower values are, the axis is turned over.
    """
    data = labels.scale(data, ["difference", "low", "high"])
    panels, turned = [], []
    lines = list(dict.fromkeys(data["line"]))
    for heading, line in itertools.product(dict.fromkeys(data["shown"]), lines):
        rows = data[(data["shown"] == heading) & (data["line"] == line)]
        traces = []
        for features, part in rows.sort_values("position").groupby("features", sort=False):
            own = features == "own"
            aspect = ASPECTS[rows["aspect"].iloc[0]]
            name = aspect["label"] if own else CONTROL_LABELS[features]
            colour = aspect["color"] if own else CONTROLS[features]["color"]
            traces.append(
                {
                    "type": "scatter",
                    "mode": "lines+markers" if own else "markers",
                    "x": [0, *part["position"]] if own else part["position"].tolist(),
                    "y": [0, *part["difference"]] if own else part["difference"].tolist(),
                    "error_y": _intervals(part, part["difference"], first=own),
                    "text": ["no guidance"] * own + [_name_place(row) for row in part.itertuples()],
                    "hovertemplate": "%{text}: %{y:+.3f}<extra>" + name + "</extra>",
                    **_look(name, colour),
                }
            )
        panels.append((f"{heading}, {line}", traces))
        turned.append((rows["direction"] == "lower").any())
    axes = {"xaxis": {"showticklabels": False, "zeroline": False}, "yaxis": {"zeroline": True}}
    plot = lay_out(panels, columns=len(lines), height=120, axes=axes)
    for number, is_turned in enumerate(turned):
        if is_turned:
            plot["layout"][_axis("yaxis", number)]["autorange"] = "reversed"
    return plot


def _name_place(row: Any) -> str:
    return f"{'κ × ' if row.line == 'scale' else 'η '}{row.place:g}"


def plot_brain_correlation(data: pd.DataFrame) -> dict[str, Any]:
    """Regions from left to right, a point with its interval per variant, over all subjects."""
    whole = data[data["subject"] == "all"].dropna(subset=["value"])
    traces = [
        {
            "type": "scatter",
            "mode": "markers",
            "x": rows["region"].tolist(),
            "y": rows["value"].tolist(),
            "error_y": _intervals(rows, rows["value"]),
            "hovertemplate": "%{x}: %{y:.3f}<extra>" + name + "</extra>",
            "offsetgroup": name,
            **_look(name, rows["colour"].iloc[0]),
        }
        for name, rows in whole.groupby("series", sort=False)
    ]
    axes = {"yaxis": {"title": {"text": "Pearson r"}, "rangemode": "tozero"}}
    return lay_out([("", traces)], columns=1, height=380, axes=axes, scattermode="group")


def plot_training_curves(data: pd.DataFrame) -> dict[str, Any]:
    """A panel per embedding: a colour per stage, a dash per subject.

    Parts of the loss wait in the legend, behind the stages.
    """
    dashes = dict(zip(dict.fromkeys(data["subject"]), itertools.cycle(DASHES), strict=False))
    panels = []
    for title, of_panel in data.groupby("panel", sort=False):
        traces = []
        keys = ["series", "subject", "stage"]
        for (series, subject, stage), rows in of_panel.groupby(keys, sort=False):
            thinned = rows.iloc[:: -(-len(rows) // MOST_POINTS)]
            whole = series in WHOLE_CURVES
            name = f"{subject}, {stage}" if whole else f"part of the loss: {series}"
            traces.append(
                {
                    "type": "scatter",
                    "mode": "lines",
                    "x": thinned["step"].tolist(),
                    "y": [float(f"{value:.4g}") for value in thinned["value"]],
                    "name": name,
                    "legendgroup": name,
                    "visible": True if whole else "legendonly",
                    "legendrank": 1 if whole else 2,
                    "hovertemplate": "step %{x}: %{y:.4g}<extra>" + name + "</extra>",
                    "line": {
                        "color": plots.STAGE_LOOKS[stage]["color"],
                        "dash": dashes[subject],
                        "width": 1.6 if whole else 1,
                    },
                }
            )
        panels.append((str(title), traces))
    axes = {
        "yaxis": {"type": "log", "dtick": "D2", "exponentformat": "power"},
        "xaxis": {"nticks": 4, "title": {"text": "steps", "standoff": 2}},
    }
    return lay_out(panels, columns=3, height=170, axes=axes)


def lay_out(
    panels: Sequence[Panel],
    *,
    columns: int,
    height: int,
    axes: dict[str, Any],
    **layout: Any,
) -> dict[str, Any]:
    """Panels in a grid, one legend for all of them: a name's click hides it in every panel.

    Args:
        panels: title and traces of each, row by row.
        columns: how many stand beside each other, at most.
        height: of one panel, in pixels.
        axes: what all "xaxis" and all "yaxis" have in common.
        layout: whatever else plotly knows.
    """
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    step = height + TITLE + BETWEEN
    names = dict.fromkeys(trace["name"] for _, some in panels for trace in some)
    above = LEGEND_LINE * (1 - (-len(names) // NAMES_IN_A_LINE))
    total = above + rows * step
    width = (1 - SIDE * (columns - 1)) / columns
    traces, titles, placed, known = [], [], {}, set()
    for number, (title, some) in enumerate(panels):
        row, column = divmod(number, columns)
        left = column * (width + SIDE)
        top = 1 - (row * step + TITLE) / (rows * step)
        placed[_axis("xaxis", number)] = axes.get("xaxis", {}) | {
            "domain": [left, left + width],
            "anchor": _axis("y", number),
            "gridcolor": style.WASH,
            "automargin": True,
        }
        placed[_axis("yaxis", number)] = axes.get("yaxis", {}) | {
            "domain": [top - height / (rows * step), top],
            "anchor": _axis("x", number),
            "gridcolor": style.WASH,
        }
        titles.append(
            {"text": f"<b>{title}</b>", "x": left, "y": top, "xref": "paper", "yref": "paper"}
            | {"xanchor": "left", "yanchor": "bottom", "showarrow": False, "font": {"size": 13}}
        )
        for trace in some:
            ours = {"xaxis": _axis("x", number), "yaxis": _axis("y", number)}
            traces.append(trace | ours | {"showlegend": trace["name"] not in known})
            known.add(trace["name"])
    return {
        "data": traces,
        "layout": {
            "height": total,
            "margin": {"l": 48, "r": 12, "t": above, "b": 0},
            "annotations": titles,
            "legend": {"orientation": "h", "x": 0, "y": 1 + (above - 8) / (rows * step)}
            | {"yanchor": "top", "font": {"size": 12}},
            "font": {"family": "system-ui, sans-serif", "color": style.INK, "size": 12},
            "paper_bgcolor": style.PAPER,
            "plot_bgcolor": style.PAPER,
            "hovermode": "closest",
            **layout,
            **placed,
        },
    }


def _axis(name: str, number: int) -> str:
    """Plotly's name of an axis: x, x2, x3 ..."""
    return name if number == 0 else f"{name}{number + 1}"


def _look(name: str, shade: str) -> Trace:
    colour = {"color": shade}
    return {"name": name, "legendgroup": name, "line": colour, "marker": colour | {"size": 9}}


def _interval(row: Any, value: float) -> Trace:
    return {"type": "data", "array": [row.high - value], "arrayminus": [value - row.low]} | {
        "thickness": 1.5,
        "width": 0,
    }


def _intervals(rows: pd.DataFrame, values: pd.Series, *, first: bool = False) -> Trace:
    """Intervals around values; a first point that is given has none."""
    above, below = ((ends - values).abs().fillna(0) for ends in (rows["high"], rows["low"]))
    start = [0.0] if first else []
    return {"type": "data", "array": [*start, *above], "arrayminus": [*start, *below]} | {
        "thickness": 1.2,
        "width": 0,
    }


def _tell(row: Any, value: float, *, signed: bool) -> str:
    told = words.write_estimate(value, row.low, row.high, unit=row.unit, signed=signed)
    told += f", n = {words.write_count(row.n, 'image')}"
    return f"{told}, {words.write_p(row.p_holm)}" if signed else told


PLOTS: dict[str, Callable[[pd.DataFrame], dict[str, Any]]] = {
    "differences": plot_differences,
    "metrics": plot_metrics,
    "sweep": plot_sweep,
    "brain_correlation": plot_brain_correlation,
    "training_curves": plot_training_curves,
}
