"""The figure of the sweep: what grows and what suffers as guidance grows (Table 2, drawn).

Made like the figures of ``figures``: pick rows, draw them, put the result into words.
"""

import math

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as MatplotlibFigure
from matplotlib.lines import Line2D

from neuraldiffuser import words
from neuraldiffuser.config.report import Presentation
from neuraldiffuser.evaluation import sweep, trends
from neuraldiffuser.reporting import labels, plots, style
from neuraldiffuser.reporting.result import Figure
from neuraldiffuser.reporting.sources import Sources

TITLE = "What grows with guidance, and what suffers"
PENDING = "The sweep over guidance scales and strengths has not been run in this experiment."
ASPECTS = {
    sweep.DETAIL: {"color": style.BLUE, "label": "detail"},
    sweep.CONTENT: {"color": style.MUTED, "label": "content"},
    sweep.QUALITY: {"color": style.VIOLET, "label": "quality"},
    sweep.REPEATS: {"color": style.GREEN, "label": "likeness of repeats"},
}
CONTROLS = {
    "another_image": {"color": style.ORANGE, "marker": "D", "shift": -0.02},
    "mean": {"color": style.OCHRE, "marker": "s", "shift": 0.02},
}
CONTROL_LABELS = {
    "another_image": "guided by another image",
    "mean": "guided by the mean feature",
}


def draw_sweep(sources: Sources, experiment: Presentation) -> Figure:
    """Differences to no guidance as the guidance scale and the strength grow, beside controls."""
    table = sources.table("sweep")
    data = pick_sweep(table, experiment)
    lines = list(dict.fromkeys(data["line"]))
    metrics = list(dict.fromkeys(data["metric"]))
    if not metrics:
        return _say_pending(data)
    figure, axes = style.new_figure(
        len(metrics), len(lines), width=7.6, height=0.9 + 1.02 * len(metrics)
    )
    for number, ax in enumerate(axes):
        row, column = divmod(number, len(lines))
        of_metric = data[data["metric"] == metrics[row]]
        part = labels.scale(
            of_metric[of_metric["line"] == lines[column]], ("difference", "low", "high")
        )
        colour = ASPECTS[of_metric["aspect"].iloc[0]]["color"]
        plots.plot_sweep(part, ax=ax, colour=colour, looks=CONTROLS)
        _label_places(ax, part, last=row == len(metrics) - 1)
        if row == 0:
            ax.set_title(_head(part.iloc[0]))
        if column == 0:
            ax.set_ylabel(part["shown"].iloc[0], rotation=0, ha="right", va="center")
    for row in range(len(metrics)):
        _share_limits(axes[row * len(lines) : (row + 1) * len(lines)])
    _add_legend(figure, data)
    return Figure(
        title=TITLE,
        caption="The paper's Table 2, drawn: a row per measure, its difference to no guidance on "
        "the same image as the guidance scale κ grows (left, as multiples of the chosen scale) and "
        "as the guidance strength η grows (right); lines are bootstrap intervals over images. "
        "Upwards is better in every row: where a lower value is better (↓), the axis is turned "
        "over. The controls are guided by features that do not belong to the image. Where a "
        "measure is best was read off these same images.",
        alt=" ".join(told.sentence for told in trends.tell_lines(table)),
        data=data,
        image=style.encode_figure(figure),
    )


def pick_sweep(table: pd.DataFrame, experiment: Presentation) -> pd.DataFrame:
    """Differences to no guidance, in the order of aspects, with places on the horizontal axis."""
    if table.empty:
        return pd.DataFrame(columns=[*sweep.SWEEP, "shown", "position"])
    shown = labels.choose_metrics(experiment)
    rows = table[(table["reference_place"] == 0) & table["metric"].isin(shown)]
    order = list(ASPECTS)
    rows = rows.sort_values("aspect", key=lambda names: names.map(order.index), kind="stable")
    headings = [
        labels.heading(shown[row.metric]) + words.name_scale(row.unit, signed=True)
        for row in rows.itertuples()
    ]
    positions = [_find_position(row, rows) for row in rows.itertuples()]
    return rows.assign(shown=headings, position=positions).reset_index(drop=True)


def _find_position(row: tuple, rows: pd.DataFrame) -> float:
    """Strengths stand where they are; scales, which grow tenfold, stand evenly."""
    if row.line == sweep.STRENGTH:
        return row.place
    places = sorted(set(rows.loc[rows["line"] == row.line, "place"]))
    return (1 + places.index(row.place)) / len(places)


def _label_places(ax: Axes, part: pd.DataFrame, *, last: bool) -> None:
    """Names of the places below the lowest row, ticks below all."""
    places = part.drop_duplicates("position").sort_values("position")
    times = "× " if part["line"].iloc[0] == sweep.SCALE else ""
    names = ["0", *(f"{times}{place:g}" for place in places["place"])]
    ax.set_xticks([0, *places["position"]], names if last else [""] * len(names))


def _head(row: pd.Series) -> str:
    if row["line"] == sweep.SCALE:
        return f"scale κ grows (η {row['fixed']:g})"
    return f"strength η grows (κ × {row['fixed']:g})"


def _share_limits(axes: list[Axes]) -> None:
    """One range for a row, so that its columns can be compared."""
    ends = [ax.get_ylim() for ax in axes]
    bottom, top = ends[0]
    inverted = bottom > top
    low = min(min(pair) for pair in ends)
    high = max(max(pair) for pair in ends)
    for ax in axes:
        ax.set_ylim((high, low) if inverted else (low, high))
    for ax in axes[1:]:
        ax.tick_params(axis="y", labelleft=False)


def _add_legend(figure: MatplotlibFigure, data: pd.DataFrame) -> None:
    here = set(data["aspect"])
    handles = [
        Line2D([], [], marker="o", markersize=4.6, linewidth=1.2, **look)
        for aspect, look in ASPECTS.items()
        if aspect in here
    ]
    handles += [
        Line2D([], [], color=look["color"], marker=look["marker"], linewidth=0, label=label)
        for (features, look), label in zip(CONTROLS.items(), CONTROL_LABELS.values(), strict=True)
        if features in set(data["features"])
    ]
    columns = math.ceil(len(handles) / 2)
    figure.legend(handles=handles, loc="outside upper center", ncols=columns)


def _say_pending(data: pd.DataFrame) -> Figure:
    figure, (ax,) = style.new_figure(height=1.2)
    style.say_no_data(ax, PENDING)
    return Figure(
        title=TITLE,
        caption=PENDING,
        alt=PENDING,
        data=data,
        image=style.encode_figure(figure),
        pending=PENDING,
    )
