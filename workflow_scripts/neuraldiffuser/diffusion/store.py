"""Reconstructed images as files, one shard of a subject's test images each, and chosen repeats."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from neuraldiffuser import storage
from neuraldiffuser.errors import DataError


def write_reconstructions(
    path: Path, *, ids: np.ndarray, images: np.ndarray, attributes: Mapping[str, Any]
) -> None:
    """Writes images uint8 (n, repeats, h, w, 3) of the 73k ids (n,).

    Raises:
        DataError: the images are not uint8 or do not belong to the ids.
    """
    if images.dtype != np.uint8 or images.ndim != 5 or len(images) != len(ids):
        raise DataError(
            f"Reconstructions for {path} are {images.dtype} {images.shape}, but uint8"
            f" ({len(ids)}, repeats, h, w, 3) is expected; report this as a defect."
        )
    storage.write_arrays(path, {"images": images, "id": np.asarray(ids, np.int64)}, attributes)


def read_reconstructions(
    paths: Iterable[Path | str], path_to_selection: Path | str | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Reads shards: (ids ascending (n,), images uint8 (n, repeats, h, w, 3)).

    With a selection, the chosen repeat of each image alone: (n, 1, h, w, 3). Shards are mapped, so
    that no more is held than is returned.

    Raises:
        DataError: a shard is missing or truncated, shards differ in shape, or share an image; or
            the selection does not fit them.
    """
    paths = [Path(path) for path in paths]
    ids = [storage.read_array(path, "id") for path in paths]
    shards = [storage.map_array(path, "images") for path in paths]
    shapes = sorted({shard.shape[1:] for shard in shards})
    if len(shapes) != 1:
        raise DataError(
            f"Shards hold images of shapes {shapes}, but one shape is expected; delete"
            f" {', '.join(map(str, paths))} and run again."
        )
    joined = np.sort(np.concatenate(ids))
    if len(np.unique(joined)) != len(joined):
        raise DataError(
            f"Shards {', '.join(map(str, paths))} share images; delete them and run again."
        )
    repeats, *shape = shapes[0]
    kept = repeats if path_to_selection is None else 1
    images = np.empty((len(joined), kept, *shape), np.uint8)
    for some, shard in zip(ids, shards, strict=True):
        images[np.searchsorted(joined, some)] = (
            shard
            if path_to_selection is None
            else pick_chosen(path_to_selection, ids=some, images=shard)
        )
    return joined, images


def pick_chosen(path: Path | str, *, ids: np.ndarray, images: np.ndarray) -> np.ndarray:
    """The chosen repeat of images (n, repeats, h, w, 3), (n, 1, h, w, 3).

    Args:
        path: a selection, ``selections/{selection}/{subject}.csv``.
        ids: 73k ids (n,).
        images: their repeats.

    Raises:
        DataError: the selection was not made from these repeats.
    """
    table = storage.read_table(path)
    chosen = table.loc[table["chosen"]].set_index("id")["repeat"]
    rated = table["id"].value_counts()
    fits = chosen.index.is_unique and np.isin(ids, chosen.index).all()
    if not fits or (rated.loc[ids] != images.shape[1]).any():
        raise DataError(
            f"{path} does not choose among {images.shape[1]} repeats of every image; delete it and"
            " run the workflow again."
        )
    return images[np.arange(len(ids)), chosen.loc[ids]][:, None]
