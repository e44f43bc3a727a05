"""Lays pictures out in labelled grids, in their own pixels or crisply enlarged."""

import io
import textwrap
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from neuraldiffuser.reporting.style import INK, MESSAGE_COLUMNS, MUTED, PAPER

FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
GAP = 4  # pixels between pictures
GROUP_GAP = 18  # pixels before a column that opens a new group
BLOCK_GAP = 36  # pixels between grids


@cache
def font(size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans as matplotlib ships it, so that a sheet looks the same everywhere."""
    return ImageFont.truetype(FONTS / f"DejaVuSans{'-Bold' if bold else ''}.ttf", size)


def enlarge(image: np.ndarray, width: int) -> Image.Image:
    """A picture, uint8 (h, w, 3), resampled (bicubic) to ``width`` x ``width`` pixels."""
    picture = Image.fromarray(np.ascontiguousarray(image))
    if picture.size == (width, width):
        return picture
    return picture.resize((width, width), Image.Resampling.BICUBIC)


def draw_grid(
    tiles: Sequence[Sequence[np.ndarray | None]],
    *,
    columns: Sequence[str],
    rows: Sequence[str],
    width: int,
    notes: Sequence[Sequence[str]] | None = None,
    group_starts: Sequence[int] = (1,),
) -> Image.Image:
    """A grid of pictures with headings above the columns and labels left of the rows.

    Args:
        tiles: rows of pictures, uint8 (h, w, 3); None leaves a tile empty.
        columns: a heading per column; "\\n" breaks it.
        rows: a label per row; "" for none.
        width: width and height of a picture, in pixels.
        notes: a few words below each picture, or none.
        group_starts: columns before which the gap is wider.
    """
    size = round(min(20, 6 + 0.09 * width))
    left = _text_width(rows, size) + (size if any(rows) else 0)
    top = _lines(columns) * round(size * 1.35) + size // 2
    below = round(size * 1.45) if notes else 0
    lefts = _places(len(columns), width, left, group_starts)
    step = width + GAP + below
    sheet = Image.new("RGB", (lefts[-1] + width, top + step * len(tiles) - GAP), PAPER)
    pen = ImageDraw.Draw(sheet)
    for place, heading in zip(lefts, columns, strict=True):
        pen.multiline_text(
            (place + width / 2, top - size // 2),
            heading,
            fill=INK,
            font=font(size),
            anchor="md",
            align="center",
        )
    for number, (row, label) in enumerate(zip(tiles, rows, strict=True)):
        y = top + number * step
        pen.multiline_text((0, y + width / 2), label, fill=INK, font=font(size), anchor="lm")
        for column, (place, image) in enumerate(zip(lefts, row, strict=True)):
            if image is not None:
                sheet.paste(enlarge(image, width), (place, y))
            if notes:
                pen.text(
                    (place + width / 2, y + width + 2),
                    notes[number][column],
                    fill=MUTED,
                    font=font(round(size * 0.86)),
                    anchor="ma",
                )
    return sheet


def _places(count: int, width: int, left: int, group_starts: Sequence[int]) -> list[int]:
    places = [left]
    for column in range(1, count):
        gap = GROUP_GAP if column in group_starts else GAP
        places.append(places[-1] + width + gap)
    return places


def _lines(texts: Sequence[str]) -> int:
    return max((text.count("\n") + 1 for text in texts if text), default=0)


def _text_width(texts: Sequence[str], size: int) -> int:
    lines = [line for text in texts for line in text.split("\n")]
    return round(max((font(size).getlength(line) for line in lines), default=0))


def lay_out(blocks: Sequence[Image.Image], *, columns: int) -> Image.Image:
    """Grids of equal size beside and below each other, ``columns`` in a row."""
    width, height = (max(sizes) for sizes in zip(*(block.size for block in blocks), strict=True))
    columns = min(columns, len(blocks))
    lines = -(-len(blocks) // columns)
    sheet = Image.new(
        "RGB",
        (columns * (width + BLOCK_GAP) - BLOCK_GAP, lines * (height + BLOCK_GAP) - BLOCK_GAP),
        PAPER,
    )
    for number, block in enumerate(blocks):
        line, column = divmod(number, columns)
        sheet.paste(block, (column * (width + BLOCK_GAP), line * (height + BLOCK_GAP)))
    return sheet


def draw_message(text: str, *, width: int = 900, height: int = 160) -> Image.Image:
    """A sheet that says in words why there are no pictures."""
    sheet = Image.new("RGB", (width, height), PAPER)
    ImageDraw.Draw(sheet).multiline_text(
        (width / 2, height / 2),
        textwrap.fill(text, MESSAGE_COLUMNS),
        fill=MUTED,
        font=font(18),
        anchor="mm",
        align="center",
    )
    return sheet


def encode_png(sheet: Image.Image) -> bytes:
    """PNG bytes of a sheet, without metadata."""
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG")
    return buffer.getvalue()
