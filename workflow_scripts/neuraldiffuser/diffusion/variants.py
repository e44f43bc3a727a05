"""What guides the reconstruction of an image: its own features, or a control's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np

from neuraldiffuser.config.guidance import VOXELS
from neuraldiffuser.diffusion.embeddings import EmbeddingFile, name_targets
from neuraldiffuser.diffusion.measured_voxels import MeasuredVoxels
from neuraldiffuser.errors import DataError

# Keeps the choice of donors apart from other stages seeded by the same number.
STREAM = 0x444F4E4F


class GuidingFile(Protocol):
    """Where what guides is read from, by image: embeddings or measured voxels."""

    path: Path

    def ids(self, group: str) -> np.ndarray:
        """Ascending 73k ids of a group (test or validation), int64 (n,)."""

    def read(self, group: str, ids: np.ndarray) -> np.ndarray:
        """Rows of the images `ids`, float32 (n, ...)."""


def open_guiding(
    paths: Iterable[Path | str], *, held_out: np.ndarray, missing_repeats: str
) -> dict[str, GuidingFile]:
    """The files of what guides, by target.

    Args:
        paths: embeddings/{target}/{subject}.h5 and, if voxels guide, voxels/{subject}.h5.
        held_out: training images that no decoder was fitted to: the validation group of voxels.
        missing_repeats: what is done about test images with fewer than three trials.
    """
    return {
        target: MeasuredVoxels(path, held_out=held_out, missing_repeats=missing_repeats)
        if target == VOXELS
        else EmbeddingFile(path)
        for target, path in name_targets(paths).items()
    }


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


def read_own(file: GuidingFile, ids: np.ndarray, _every: np.ndarray, _seed: int) -> np.ndarray:
    """The images' own features."""
    return file.read("test", ids)


def read_another_images(
    file: GuidingFile, ids: np.ndarray, every: np.ndarray, seed: int
) -> np.ndarray:
    """Those of another image among `every`, the same one for every shard and file."""
    donors = choose_donors(every, seed=seed)
    return file.read("test", donors[np.searchsorted(every, ids)])


def read_mean(file: GuidingFile, ids: np.ndarray, _every: np.ndarray, _seed: int) -> np.ndarray:
    """The mean over the held-out images of the file, for every image."""
    mean = average_held_out(file)
    return np.broadcast_to(mean, (len(ids), *mean.shape))


def average_held_out(file: GuidingFile) -> np.ndarray:
    """The mean over the held-out images of the file, float32 (...); nothing else is read of it.

    Raises:
        DataError: the file holds no held-out image.
    """
    held_out = file.ids("validation")
    if not len(held_out):
        raise DataError(
            f"{file.path} has no validation images to average; set decoder.validation_images."
        )
    return file.read("validation", held_out).mean(axis=0)


FEATURES: dict[str, Callable[[GuidingFile, np.ndarray, np.ndarray, int], np.ndarray]] = {
    "own": read_own,
    "another_image": read_another_images,
    "mean": read_mean,
}


def read_features(
    files: Mapping[str, GuidingFile],
    ids: np.ndarray,
    *,
    features: str,
    every: np.ndarray,
    seed: int,
) -> dict[str, np.ndarray]:
    """What guides test images, by target.

    Args:
        files: by target; they may hold further images.
        ids: (n,) images that are guided.
        features: a key of FEATURES.
        every: ids of all images that are reconstructed, ascending; donors are among them, so that
            subjects with the same test images have the same donors.
        seed: the experiment's seed.

    Returns:
        (n, ...) each.

    Raises:
        DataError: a file lacks an image.
    """
    read = FEATURES[features]
    return {target: read(file, ids, every, seed) for target, file in files.items()}
