"""Contact sheets: every test image beside its reconstructions."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from neuraldiffuser import storage
from neuraldiffuser.nsd.stimuli import read_images
from neuraldiffuser.reporting import sheets
from neuraldiffuser.reporting.pictures import read_repeats
from neuraldiffuser.reporting.sources import Sources

COLUMNS_OF_BLOCKS = 2


def draw_variant_sheet(
    *,
    path_to_stimuli: Path,
    paths_to_reconstructions: Sequence[Path],
    paths_to_selection: Sequence[Path],
    images: int,
    width: int,
) -> Image.Image:
    """One variant and subject: the stimulus and every repeat, a row per test image.

    Args:
        path_to_stimuli: nsd_stimuli.hdf5.
        paths_to_reconstructions: the variant's shards.
        paths_to_selection: the file of a selection, whose chosen repeat alone is shown; or none.
        images: how many test images at most, lowest ids first.
        width: width of a picture in pixels.
    """
    sources = Sources(
        {"reconstructions": paths_to_reconstructions, "selections": paths_to_selection}
    )
    ids = _first_ids(sources, images)
    [(made, _), *_] = sources.files("reconstructions")
    shown = next((who for who, _ in sources.files("selections")), made)
    repeats = read_repeats(sources, maker=made["variant"], ids=ids, **shown)
    stimuli = read_images(path_to_stimuli, ids)
    blocks = [
        sheets.draw_grid(
            [[stimuli[n], *repeats[int(ids[n])]] for n in rows],
            columns=["stimulus", *(_numbers(repeats) if shown == made else ["chosen"])],
            rows=[str(ids[n]) for n in rows],
            width=width,
        )
        for rows in np.array_split(np.arange(len(ids)), COLUMNS_OF_BLOCKS)
        if len(rows)
    ]
    return sheets.lay_out(blocks, columns=COLUMNS_OF_BLOCKS)


def _first_ids(sources: Sources, count: int) -> np.ndarray:
    ids = [storage.read_array(path, "id") for _, path in sources.files("reconstructions")]
    return np.unique(np.concatenate(ids))[:count]


def _numbers(repeats: dict[int, np.ndarray]) -> list[str]:
    return [str(number + 1) for number in range(len(next(iter(repeats.values()))))]
