"""Small pictures of the gallery: of each test image one strip with all its repeats side by side.

A page of 1000 images then loads one file per image, variant and subject, and only those in view.
The same strip with larger pictures stands beside it for whoever enlarges an image.
"""

import hashlib
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from neuraldiffuser import storage
from neuraldiffuser.diffusion.store import pick_chosen
from neuraldiffuser.nsd.stimuli import read_images

LARGE = "large"  # folder of the larger strips, which the page knows (gallery.js)
QUALITY = 90  # of WebP, in percent
GAPS_PER_PICTURE = 32  # the page relies on it (gallery.js)
ROWS_AT_ONCE = 50


def write_strips(
    rows: Iterable[tuple[int, np.ndarray]], *, folder: Path, width: int, enlarged: int
) -> dict[str, Any]:
    """Writes ``{id:05d}.webp`` and ``large/{id:05d}.webp`` of every image into ``folder``.

    Args:
        rows: by 73k id its pictures, uint8 (repeats, h, w, 3), as many for every image.
        folder: is made where it is missing.
        width: of one picture in pixels, at most; smaller pictures stay as they are.
        enlarged: the same of the larger strips.

    Returns:
        What was written: ``ids`` ascending, ``repeats``, and ``sha256`` over all files by id.
    """
    (folder / LARGE).mkdir(parents=True, exist_ok=True)
    digests, repeats = {}, 0
    for number, pictures in rows:
        small, large = (encode_strip(pictures, pixels) for pixels in (width, enlarged))
        (folder / name_strip(number)).write_bytes(small)
        (folder / LARGE / name_strip(number)).write_bytes(large)
        digests[number] = hashlib.sha256(small + large).hexdigest()
        repeats = len(pictures)
    ids = sorted(digests)
    together = hashlib.sha256("".join(digests[number] for number in ids).encode()).hexdigest()
    return {"ids": ids, "repeats": repeats, "sha256": together}


def name_strip(number: int) -> str:
    """File name of the strip of the image with this 73k id."""
    return f"{number:05d}.webp"


def encode_strip(pictures: np.ndarray, width: int) -> bytes:
    """Pictures, uint8 (repeats, h, w, 3), side by side as WebP, each at most ``width`` wide.

    Between them stand transparent gaps of a 32nd of a picture.
    """
    width = min(width, pictures.shape[2])
    step = width + width // GAPS_PER_PICTURE
    strip = Image.new("RGBA", (step * (len(pictures) - 1) + width, width))
    for place, picture in enumerate(pictures):
        strip.paste(_shrink(picture, width), (place * step, 0))
    buffer = io.BytesIO()
    strip.save(buffer, format="WEBP", quality=QUALITY, method=4)
    return buffer.getvalue()


def _shrink(picture: np.ndarray, width: int) -> Image.Image:
    image = Image.fromarray(np.ascontiguousarray(picture))
    if image.size == (width, width):
        return image
    return image.resize((width, width), Image.Resampling.LANCZOS)


def list_reconstructions(
    paths: Sequence[Path | str], paths_to_selection: Sequence[Path | str]
) -> Iterator[tuple[int, np.ndarray]]:
    """(73k id, its repeats uint8 (repeats, h, w, 3)) of all shards, a few images at a time.

    Args:
        paths: a variant's shards.
        paths_to_selection: the file of a selection, whose chosen repeat alone is given; or none.
    """
    for path in paths:
        ids = storage.read_array(path, "id")
        images = storage.map_array(path, "images")
        for start in range(0, len(ids), ROWS_AT_ONCE):
            here, rows = (every[start : start + ROWS_AT_ONCE] for every in (ids, images))
            for chosen in paths_to_selection:
                rows = pick_chosen(chosen, ids=here, images=rows)
            yield from zip(here.tolist(), rows, strict=True)


def list_stimuli(path: Path | str, ids: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
    """(73k id, the stimulus uint8 (1, h, w, 3)), a few images at a time."""
    for start in range(0, len(ids), ROWS_AT_ONCE):
        here = np.asarray(ids[start : start + ROWS_AT_ONCE])
        yield from zip(here.tolist(), read_images(path, here)[:, None], strict=True)
