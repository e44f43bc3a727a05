"""Contact sheets: every test image beside its reconstructions."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from neuraldiffuser import storage
from neuraldiffuser.nsd.stimuli import read_images
from neuraldiffuser.reporting import labels, sheets
from neuraldiffuser.reporting.pictures import read_repeats
from neuraldiffuser.reporting.sources import Sources

COLUMNS_OF_BLOCKS = 2
THUMBNAIL = 96  # pixels


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
        _draw_rows(
            [[stimuli[n], *repeats[int(ids[n])]] for n in rows],
            headings=["stimulus", *(_numbers(repeats) if shown == made else ["chosen"])],
            names=[str(ids[n]) for n in rows],
            width=width,
        )
        for rows in np.array_split(np.arange(len(ids)), COLUMNS_OF_BLOCKS)
        if len(rows)
    ]
    return sheets.lay_out(blocks, columns=COLUMNS_OF_BLOCKS)


def draw_comparison_sheet(
    *,
    path_to_stimuli: Path,
    paths_to_reconstructions: Sequence[Path],
    paths_to_selections: Sequence[Path],
    makers: Mapping[str, str],
    images: int,
) -> Image.Image:
    """One subject: the stimulus and every repeat of several variants side by side.

    Args:
        path_to_stimuli: nsd_stimuli.hdf5.
        paths_to_reconstructions: the shards of all the variants.
        paths_to_selections: the files of the selections, whose chosen repeat alone is shown.
        makers: variants and selections from left to right, each with the variant that made its
            images.
        images: how many test images at most, lowest ids first.
    """
    sources = Sources(
        {"reconstructions": paths_to_reconstructions, "selections": paths_to_selections}
    )
    ids = _first_ids(sources, images)
    subject = sources.files("reconstructions")[0][0]["subject"]
    made = {
        name: read_repeats(sources, variant=name, maker=maker, subject=subject, ids=ids)
        for name, maker in makers.items()
    }
    counts = {name: len(_numbers(repeats)) for name, repeats in made.items()}
    stimuli = read_images(path_to_stimuli, ids)
    return _draw_rows(
        [
            [stimulus, *(picture for repeats in made.values() for picture in repeats[int(i)])]
            for i, stimulus in zip(ids, stimuli, strict=True)
        ],
        headings=["stimulus", *_headings(counts)],
        names=[str(i) for i in ids],
        width=min(THUMBNAIL, stimuli.shape[1]),
        group_starts=list(itertools.accumulate(counts.values(), initial=1)),
    )


def _draw_rows(
    tiles: Sequence[Sequence[np.ndarray]],
    *,
    headings: Sequence[str],
    names: Sequence[str],
    width: int,
    group_starts: Sequence[int] = (1,),
) -> Image.Image:
    return sheets.draw_grid(
        tiles, columns=headings, rows=names, width=width, group_starts=group_starts
    )


def _first_ids(sources: Sources, count: int) -> np.ndarray:
    ids = [storage.read_array(path, "id") for _, path in sources.files("reconstructions")]
    return np.unique(np.concatenate(ids))[:count]


def _numbers(repeats: dict[int, np.ndarray]) -> list[str]:
    return [str(number + 1) for number in range(len(next(iter(repeats.values()))))]


def _headings(counts: Mapping[str, int]) -> list[str]:
    """Each variant's name above the middle one of its repeats, above a single one word by word."""
    return [
        labels.label_variant(variant).replace(" ", "\n" if count == 1 else " ")
        if number == count // 2
        else ""
        for variant, count in counts.items()
        for number in range(count)
    ]
