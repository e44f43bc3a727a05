"""Measured voxels of some images: what guides where a brain-encoding model does."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from neuraldiffuser import storage
from neuraldiffuser.decoders.prediction import select_trials
from neuraldiffuser.errors import DataError
from neuraldiffuser.nsd.voxels import Trials, read_voxels

# Groups are called as in embeddings/{target}/{subject}.h5, whose validation images are some of the
# training images.
SPLITS = {"test": "test", "validation": "training"}


def read_trials(path: Path | str, group: str) -> Trials:
    """The trials of ``voxels/{subject}.h5`` that images of a group (test or validation) have."""
    return getattr(read_voxels(path), SPLITS[group])


def read_test_ids(path: Path | str) -> np.ndarray:
    """Ascending 73k ids of the subject's test images, int64 (n,)."""
    return np.unique(read_trials(path, "test").id)


def read_measured(
    path: Path | str, group: str, ids: np.ndarray, *, missing_repeats: str
) -> np.ndarray:
    """A subject's responses to images, averaged over their repeats.

    Args:
        path: ``voxels/{subject}.h5``.
        group: test or validation.
        ids: (n,) 73k ids in any order, repeated or not.
        missing_repeats: a name in ``repeats.MISSING_REPEATS``.

    Returns:
        (n, voxels) float32, rows in the order of ``ids``; 0 where a voxel was never measured.

    Raises:
        DataError: an image has no trial in the group, or a response is not finite.
    """
    trials = read_trials(path, group)
    missing = np.setdiff1d(ids, trials.id)
    if len(missing):
        raise DataError(
            f"{path} holds no {SPLITS[group]} trial of {len(missing)} of the images that are to be"
            f" guided, {int(missing[0])} among them; make the embeddings of this subject again."
        )
    known, means = select_trials(trials, ids).averaged(missing_repeats)
    rows = means[np.searchsorted(known, ids)]
    storage.require_finite(rows, f"{SPLITS[group]}/betas of {path}")
    return rows
