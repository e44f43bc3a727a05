"""One restrained look for every figure: colours, type, and bytes that do not change by themselves.

Colours are told apart by people with colour-blindness: each of the series that stand beside one
another also differs in lightness.
"""

import io
import textwrap
from collections.abc import Sequence

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK = "#1f2933"
MUTED = "#64707d"
RULE = "#d5dbe1"
WASH = "#f1f4f7"
PAPER = "#ffffff"
MESSAGE_COLUMNS = 80  # of a sentence where a plot would be

BLUE = "#1c6ca8"
GREY = "#8d99a6"
ORANGE = "#d97a1f"
OCHRE = "#b89b3e"
VIOLET = "#67479c"
LILAC = "#b6a3d8"
GREEN = "#2f8560"
RED = "#b3312c"

VARIANT_COLOURS = {
    "guided": BLUE,
    "unguided": GREY,
    "wrong_image": ORANGE,
    "mean_feature": OCHRE,
    "ground_truth_guided": VIOLET,
    "ground_truth_unguided": LILAC,
}
OTHER_COLOURS = ("#0b4a78", "#5b9ccb", "#93bfdf", GREEN, "#7fb89c", RED, "#5b4636", "#9c7b9e")
SUBJECT_COLOURS = (
    "#0b4a78",
    "#3f88bd",
    "#8fbcdc",
    "#2f8560",
    "#7fb89c",
    "#b6a3d8",
    "#67479c",
    "#5b4636",
)
SUBJECT_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")

# Marker and colour of whoever decodes besides the decoder, whose colour is BLUE.
PREDICTOR_LOOKS = {
    "ridge": {"color": ORANGE, "marker": "D"},
    "scratch": {"color": VIOLET, "marker": "s"},
    "mean_feature": {"color": OCHRE, "marker": "_"},
}
DECODER_LOOK = {"color": BLUE, "marker": "o"}

DOTS_PER_INCH = 160

matplotlib.rcParams.update(
    {
        "font.family": "DejaVu Sans",
        "font.size": 9,
        "text.color": INK,
        "axes.edgecolor": MUTED,
        "axes.labelcolor": INK,
        "axes.labelsize": 9,
        "axes.linewidth": 0.7,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlesize": 9.5,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.titlepad": 8,
        "axes.axisbelow": True,
        "grid.color": RULE,
        "grid.linewidth": 0.6,
        "legend.frameon": False,
        "legend.fontsize": 8.5,
        "legend.handlelength": 1.4,
        "xtick.color": MUTED,
        "ytick.color": MUTED,
        "xtick.labelcolor": INK,
        "ytick.labelcolor": INK,
        "xtick.labelsize": 8.5,
        "ytick.labelsize": 8.5,
        "figure.facecolor": PAPER,
        "savefig.facecolor": PAPER,
    }
)


def variant_colours(variants: Sequence[str]) -> dict[str, str]:
    """A colour per variant: known names keep theirs everywhere, others follow in order."""
    others = [name for name in variants if name not in VARIANT_COLOURS]
    spare = {name: OTHER_COLOURS[i % len(OTHER_COLOURS)] for i, name in enumerate(others)}
    return {name: VARIANT_COLOURS.get(name) or spare[name] for name in variants}


def new_figure(
    rows: int = 1, columns: int = 1, *, width: float = 7.2, height: float = 3.6
) -> tuple[Figure, list[Axes]]:
    """A figure of ``rows`` x ``columns`` axes (row by row), sizes in inches."""
    figure, axes = pyplot.subplots(
        rows, columns, figsize=(width, height), squeeze=False, layout="constrained"
    )
    return figure, list(axes.flat)


def say_no_data(ax: Axes, reason: str) -> Axes:
    """Writes ``reason`` where a plot would be."""
    ax.set_axis_off()
    ax.text(
        0.5,
        0.5,
        textwrap.fill(reason, MESSAGE_COLUMNS),
        ha="center",
        va="center",
        color=MUTED,
        transform=ax.transAxes,
    )
    return ax


def encode_figure(figure: Figure) -> bytes:
    """PNG bytes of a figure, the same for the same drawing; closes the figure."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
    pyplot.close(figure)
    return buffer.getvalue()
