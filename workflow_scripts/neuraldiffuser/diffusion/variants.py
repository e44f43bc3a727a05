"""Which features guide the reconstruction of an image: its own, or a control's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from neuraldiffuser import storage
from neuraldiffuser.diffusion.embeddings import read_embedding, read_ids
from neuraldiffuser.errors import DataError

# Keeps the choice of donors apart from other stages seeded by the same number.
STREAM = 0x444F4E4F


def choose_donors(ids: np.ndarray, *, seed: int) -> np.ndarray:
    """For each image another one, all different: a seeded cycle through all of them.

    Args:
        ids: all test ids, ascending, (n,).
        seed: the experiment's seed.

    Returns:
        (n,) ids; none equals the id in its place.

    Raises:
        DataError: there is no other image.
    """
    if len(ids) < 2:
        raise DataError(
            "Guidance by another image needs at least two test images; leave that variant out."
        )
    order = np.random.default_rng((STREAM, int(seed))).permutation(len(ids))
    donors = np.empty_like(ids)
    donors[order] = ids[np.roll(order, -1)]
    return donors


def read_own(path: Path, ids: np.ndarray, _seed: int) -> np.ndarray:
    """The images' own features."""
    return read_embedding(path, "test", ids)


def read_another_images(path: Path, ids: np.ndarray, seed: int) -> np.ndarray:
    """Those of another test image, the same for every shard, subject and layer."""
    every = read_ids(path, "test")
    donors = choose_donors(every, seed=seed)
    return read_embedding(path, "test", donors[np.searchsorted(every, ids)])


def read_mean(path: Path, ids: np.ndarray, _seed: int) -> np.ndarray:
    """The mean over the held-out images of the file, for every image.

    Raises:
        DataError: the file holds no held-out image.
    """
    rows = storage.read_array(path, "validation/embedding").astype(np.float32)
    if not len(rows):
        raise DataError(
            f"{path} has no validation images to average; set decoder.validation_images."
        )
    storage.require_finite(rows, f"validation/embedding of {path}")
    return np.broadcast_to(rows.mean(axis=0), (len(ids), *rows.shape[1:]))


FEATURES: dict[str, Callable[[Path, np.ndarray, int], np.ndarray]] = {
    "own": read_own,
    "another_image": read_another_images,
    "mean": read_mean,
}
