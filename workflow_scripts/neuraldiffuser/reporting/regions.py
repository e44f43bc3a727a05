"""Where a subject's voxels lie: regions and noise ceilings on slices of the mean volume."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
from matplotlib import colors
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from neuraldiffuser import words
from neuraldiffuser.errors import DataError
from neuraldiffuser.nsd import rois
from neuraldiffuser.nsd.selection import Selection
from neuraldiffuser.reporting import style
from neuraldiffuser.reporting.result import Figure

REGIONS = {  # region: (name, colour)
    "V1": ("V1", style.BLUE),
    "V2": ("V2", "#7fb89c"),
    "V3": ("V3", style.OCHRE),
    "V4": ("hV4", style.ORANGE),
    rois.HIGHER: ("rest of nsdgeneral", style.LILAC),
}
OPACITY = 0.75
CONTRAST = (2, 99.5)  # percentiles of the mean volume that become black and white
HEIGHTS = (0.75, 0.5, 0.25)  # of the axial slices, as quantiles over voxels
WIDTH = 9.4  # inches
MARGIN = 0.08  # around a slice, share of the longest edge
SIDES = ("PA", "LR", "LR")  # left and right of a slice across x, y and z
NOTHING = -1  # where there is no voxel of nsdgeneral

Slice = tuple[int, int]  # axis and position


@dataclass(frozen=True)
class Anatomy:
    """A mean volume (x, y, z) and how it lies in the head: nibabel's (3, 2), None if unknown."""

    mean: np.ndarray
    orientation: np.ndarray | None

    def turn(self, volume: np.ndarray) -> np.ndarray:
        """``volume`` with axes that point right, forward and up, where that is known."""
        if self.orientation is None:
            return volume
        return nibabel.apply_orientation(volume, self.orientation)


def read_anatomy(path: Path | str | None, *, volume_shape: tuple[int, int, int]) -> Anatomy:
    """The mean volume under voxels of a grid of ``volume_shape``; black where there is none.

    Raises:
        DataError: the file is missing, truncated or of another grid.
    """
    if path is None:
        return Anatomy(np.zeros(volume_shape, np.float32), orientation=None)
    mean = rois.read_volume(path)
    if mean.shape != volume_shape:
        raise DataError(
            f"{path} has shape {mean.shape}, but the subject's voxels lie in {volume_shape}; "
            "fetch it again."
        )
    image = nibabel.load(path)
    placed = image.header["sform_code"] or image.header["qform_code"]
    orientation = nibabel.io_orientation(image.affine) if placed else None
    return Anatomy(np.nan_to_num(mean.astype(np.float32)), orientation)


def draw(subject: str, *, selection: Selection, anatomy: Anatomy) -> Figure:
    """The regions of a subject and, below them, its noise ceilings on the same slices."""
    numbers = anatomy.turn(number_voxels(selection))
    slices = choose_slices(numbers != NOTHING)
    mean = mount(anatomy.turn(anatomy.mean), slices, empty=0)
    voxels = mount(numbers, slices, empty=NOTHING)
    edge = WIDTH / mean.shape[1] * mean.shape[0]
    figure, (above, below) = style.new_figure(2, 1, width=WIDTH, height=0.8 + 1.65 * edge)
    for ax in (above, below):
        show_mean(ax, mean)
        if anatomy.orientation is not None:
            mark_sides(ax, numbers.shape, slices)
    total = words.write_count(len(selection.index), "voxel")
    plot_regions(above, voxels, selection).set_title(f"{subject}: {total} of nsdgeneral by region")
    plot_noise_ceilings(below, voxels, selection).set_title("Noise ceilings of the same voxels")
    data = count_regions(selection)
    return Figure(
        title=f"Where the voxels of {subject} lie",
        caption=_explain(anatomy),
        alt=_tell(subject, data),
        data=data.assign(subject=subject),
        image=style.encode_figure(figure),
    )


def _explain(anatomy: Anatomy) -> str:
    found = "Slices of the subject's mean functional volume"
    lacking = "Slices of a volume whose mean this copy of the data lacks"
    sides = "P and A mark back and front, L and R left and right."
    unknown = "The file does not say how the volume lies in the head, so no side is marked."
    return (
        f"{found if anatomy.mean.any() else lacking}: the sagittal and the coronal one with most "
        "voxels of nsdgeneral, and axial ones at the quartiles of the voxels' heights, the upper "
        f"first. {unknown if anatomy.orientation is None else sides} Above, the region of each "
        "voxel, with numbers of voxels; below, how much of its variance over images (mean of three "
        "trials) any model could explain."
    )


def _tell(subject: str, data: pd.DataFrame) -> str:
    told = [
        f"{row.region} {words.write_count(row.voxels, 'voxel')} with a mean noise ceiling of "
        f"{row.noise_ceiling:.1f} %"
        for row in data.itertuples()
    ]
    return f"{subject}: {'; '.join(told)}."


def count_regions(selection: Selection) -> pd.DataFrame:
    """Voxels and mean noise ceiling (percent) of each region that has voxels."""
    masks = rois.regions(selection.roi)
    rows = [
        (name, int(masks[region].sum()), float(selection.noise_ceiling[masks[region]].mean()))
        for region, (name, _) in REGIONS.items()
        if masks[region].any()
    ]
    return pd.DataFrame(rows, columns=["region", "voxels", "noise_ceiling"])


def number_voxels(selection: Selection) -> np.ndarray:
    """A volume (x, y, z) that holds each voxel's row, and ``NOTHING`` elsewhere."""
    numbers = np.full(int(np.prod(selection.volume_shape)), NOTHING)
    numbers[selection.index] = np.arange(len(selection.index))
    return numbers.reshape(selection.volume_shape)


def choose_slices(inside: np.ndarray) -> list[Slice]:
    """The sagittal and the coronal slice with most voxels, and axial ones spread over them."""
    counts = [inside.sum(axis=tuple({0, 1, 2} - {axis})) for axis in range(3)]
    share = np.cumsum(counts[2]) / counts[2].sum()
    axial = [int(np.searchsorted(share, height)) for height in HEIGHTS]
    return [(0, int(counts[0].argmax())), (1, int(counts[1].argmax())), *((2, z) for z in axial)]


def mount(volume: np.ndarray, slices: Sequence[Slice], *, empty: float) -> np.ndarray:
    """The slices side by side as one picture (rows, columns), its first row at the bottom."""
    margin = _margin(volume.shape)
    planes = [volume.take(position, axis=axis).T for axis, position in slices]
    height = max(map(len, planes)) + 2 * margin
    framed = []
    for plane in planes:
        space = height - len(plane)
        below = space // 2
        edges = ((below, space - below), (margin, margin))
        framed.append(np.pad(plane, edges, constant_values=empty))
    return np.concatenate(framed, axis=1)


def _margin(shape: Sequence[int]) -> int:
    return round(MARGIN * max(shape)) + 1


def show_mean(ax: Axes, mean: np.ndarray) -> Axes:
    """The mean volume in grey."""
    bright = mean[mean > 0]
    low, high = np.percentile(bright, CONTRAST) if bright.size else (0, 1)
    ax.imshow(mean, cmap="gray", vmin=low, vmax=high, origin="lower", interpolation="bicubic")
    ax.set_axis_off()
    return ax


def mark_sides(ax: Axes, shape: Sequence[int], slices: Sequence[Slice]) -> Axes:
    """Letters at the left and right of each slice: posterior and anterior, left and right."""
    margin, left = _margin(shape), -0.5
    middle = sum(ax.get_ylim()) / 2
    look = {"color": "white", "fontsize": 7, "ha": "center", "va": "center"}
    for axis, _ in slices:
        right = left + shape[1 if axis == 0 else 0] + 2 * margin
        ax.text(left + margin / 2, middle, SIDES[axis][0], **look)
        ax.text(right - margin / 2, middle, SIDES[axis][1], **look)
        left = right
    return ax


def plot_regions(ax: Axes, voxels: np.ndarray, selection: Selection) -> Axes:
    """Regions in colour, their names and numbers of voxels beside them."""
    masks = rois.regions(selection.roi)
    paint = np.zeros((len(selection.index) + 1, 4))  # the last row is that of NOTHING
    handles = []
    for region, (name, colour) in REGIONS.items():
        paint[:-1][masks[region]] = colors.to_rgba(colour, OPACITY)
        count = words.group_thousands(masks[region].sum())
        handles.append(Patch(color=colour, label=f"{name}: {count}"))
    ax.imshow(paint[voxels], origin="lower", interpolation="nearest")
    ax.legend(handles=handles, loc="center left", bbox_to_anchor=(1, 0.5))
    return ax


def plot_noise_ceilings(ax: Axes, voxels: np.ndarray, selection: Selection) -> Axes:
    """Noise ceilings in colour, with a bar that tells them in percent."""
    ceilings = np.ma.masked_array(selection.noise_ceiling[voxels], voxels == NOTHING)
    top = 10 * np.ceil(np.percentile(selection.noise_ceiling, 99) / 10)
    image = ax.imshow(
        ceilings, cmap="viridis", vmin=0, vmax=top, origin="lower", interpolation="nearest"
    )
    bar = ax.figure.colorbar(image, cax=ax.inset_axes((1.03, 0.1, 0.016, 0.68)))
    bar.ax.set_title("% of variance", fontsize=8.5, fontweight="normal")
    bar.outline.set_visible(False)
    return ax
