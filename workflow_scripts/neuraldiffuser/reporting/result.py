"""A finished figure: the picture, what it plots, and the words around it."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from neuraldiffuser import storage


@dataclass(frozen=True)
class Figure:
    """A picture (PNG bytes) with its title, a caption that says how to read it, an alternative text
    that states the result, and the plotted rows; ``pending`` says why there is nothing to plot."""

    title: str
    caption: str
    alt: str
    data: pd.DataFrame
    image: bytes
    pending: str = ""


def write_figure(
    figure: Figure, *, path_to_image: Path, path_to_data: Path, path_to_words: Path
) -> None:
    """Writes the picture (PNG), the plotted rows (CSV) and the words (JSON)."""
    storage.write_bytes(path_to_image, figure.image)
    storage.write_table(path_to_data, figure.data)
    pending = figure.pending or (figure.alt if figure.data.empty else "")
    told = {"title": figure.title, "caption": figure.caption, "alt": figure.alt}
    storage.write_json(path_to_words, told | {"pending": pending})
