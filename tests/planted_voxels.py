"""Voxels of one invented subject without betas, for what only counts them."""

import numpy as np

from neuraldiffuser.nsd.normalisation import Statistics
from neuraldiffuser.nsd.selection import Selection
from neuraldiffuser.nsd.voxels import Trials, Voxels


def plant_voxels(
    *,
    training: np.ndarray,
    test: np.ndarray,
    selection: Selection,
    valid: np.ndarray,
    subject: str = "subj01",
    missing_sessions: tuple[int, ...] = (),
    dropped_voxels: int = 0,
) -> Voxels:
    """Voxels with trials of the given ids and validity (sessions, voxels)."""
    session = np.setdiff1d(np.arange(1, 100), missing_sessions)[: len(valid)]
    tables = dict.fromkeys(("mean", "std", "test_mean", "test_std"), np.zeros(valid.shape))
    statistics = Statistics(session=session, valid=valid, **tables)
    return Voxels(
        subject=subject,
        selection=selection,
        training=_trials(training, statistics),
        test=_trials(test, statistics),
        statistics=statistics,
        missing_sessions=missing_sessions,
        dropped_voxels=dropped_voxels,
    )


def _trials(ids: np.ndarray, statistics: Statistics) -> Trials:
    nothing = np.zeros(len(ids), np.int64)
    betas = np.zeros((len(ids), 0), np.float32)
    return Trials(betas=betas, id=ids, repeat=nothing, session=nothing + 1, statistics=statistics)
