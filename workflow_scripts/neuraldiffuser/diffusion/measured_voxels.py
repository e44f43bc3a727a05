"""Measured voxels of images: what guides where a brain-encoding model does."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from neuraldiffuser import storage
from neuraldiffuser.decoders.prediction import select_trials
from neuraldiffuser.errors import DataError
from neuraldiffuser.nsd.voxels import Trials, Voxels, read_voxels

# Embeddings call their groups test and validation; validation images are some training images.
SPLITS = {"test": "test", "validation": "training"}


@dataclass(frozen=True)
class MeasuredVoxels:
    """A subject's responses by image, averaged over repeats.

    Attributes:
        path: ``voxels/{subject}.h5``.
        held_out: (n,) the training images that make up the group validation.
        missing_repeats: a name in ``repeats.MISSING_REPEATS``.
    """

    path: Path
    held_out: np.ndarray
    missing_repeats: str

    def ids(self, group: str) -> np.ndarray:
        """Ascending 73k ids of a group (test or validation), int64 (n,)."""
        return np.unique(self.held_out if group == "validation" else self._trials(group).id)

    def read(self, group: str, ids: np.ndarray) -> np.ndarray:
        """Responses to images of a group.

        Args:
            group: test or validation.
            ids: (n,) 73k ids in any order, repeated or not.

        Returns:
            (n, voxels) float32, rows in the order of ``ids``; 0 where a voxel was never measured.

        Raises:
            DataError: an image has no trial in the group, or a response is not finite.
        """
        trials = self._trials(group)
        missing = np.setdiff1d(ids, trials.id)
        if len(missing):
            raise DataError(
                f"{self.path} holds no {SPLITS[group]} trial of {len(missing)} of the images that"
                f" its voxels are to guide, {int(missing[0])} among them; decode the subject's"
                " embeddings from these voxels again."
            )
        known, means = select_trials(trials, ids).averaged(self.missing_repeats)
        rows = means[np.searchsorted(known, ids)]
        storage.require_finite(rows, f"{SPLITS[group]}/betas of {self.path}")
        return rows

    @cached_property
    def _voxels(self) -> Voxels:
        return read_voxels(self.path)

    def _trials(self, group: str) -> Trials:
        return getattr(self._voxels, SPLITS[group])
