"""Normalisation of betas, affine per session and voxel.

Every convention is a table of means and deviations (sessions, voxels); ``NORMALISATIONS`` holds
one function per convention.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from neuraldiffuser.errors import DataError


@dataclass(frozen=True)
class Statistics:
    """Affine normalisation: means and deviations, float64 (sessions, voxels)."""

    session: np.ndarray  # (sessions,) 1-based
    mean: np.ndarray
    std: np.ndarray
    valid: np.ndarray  # bool; False where a voxel is constant and so carries nothing


def average_repeats(rows: np.ndarray, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means of the rows with equal id: ids ascending (images,), means float32 (images, columns)."""
    order = np.argsort(ids, kind="stable")
    unique, first, counts = np.unique(ids[order], return_index=True, return_counts=True)
    sums = np.add.reduceat(rows[order], first, axis=0, dtype=np.float64)
    means = (sums / counts[:, None]).astype(np.float32)
    return unique, means


@dataclass(frozen=True)
class _Moments:
    """Per session and voxel: trials (sessions, 1), mean and variance float64 (sessions, voxels)."""

    count: np.ndarray
    mean: np.ndarray
    variance: np.ndarray


def _session_moments(betas: np.ndarray, rows: pd.DataFrame, chosen: np.ndarray) -> _Moments:
    parts = [betas[(rows["session"] == session).to_numpy() & chosen] for session in _sessions(rows)]
    empty = [session for session, part in zip(_sessions(rows), parts, strict=True) if not len(part)]
    if empty:
        raise DataError(
            f"Session {empty[0]} has no training trial to normalise with; leave it out."
        )
    return _Moments(
        count=np.array([[len(part)] for part in parts]),
        mean=np.stack([part.mean(axis=0, dtype=np.float64) for part in parts]),
        variance=np.stack([part.var(axis=0, dtype=np.float64) for part in parts]),
    )


def _sessions(rows: pd.DataFrame) -> np.ndarray:
    return np.unique(rows["session"])


Table = tuple[np.ndarray, np.ndarray]


def session_training(betas: np.ndarray, rows: pd.DataFrame, valid: np.ndarray) -> Table:
    """Mean and deviation of each session's training trials (the corrected reading)."""
    moments = _session_moments(betas, rows, ~rows["shared"].to_numpy())
    return moments.mean, np.sqrt(moments.variance) * valid


def session_all(betas: np.ndarray, rows: pd.DataFrame, valid: np.ndarray) -> Table:
    """Mean and deviation of all of each session's trials, test images included."""
    moments = _session_moments(betas, rows, np.ones(len(rows), bool))
    return moments.mean, np.sqrt(moments.variance) * valid


def global_training(betas: np.ndarray, rows: pd.DataFrame, valid: np.ndarray) -> Table:
    """One mean and deviation over the training trials of all sessions where a voxel is valid."""
    moments = _session_moments(betas, rows, ~rows["shared"].to_numpy())
    weight = moments.count * valid / np.maximum((moments.count * valid).sum(axis=0), 1)
    mean = (weight * moments.mean).sum(axis=0)
    variance = (weight * (moments.variance + (moments.mean - mean) ** 2)).sum(axis=0)
    return np.tile(mean, (len(valid), 1)), np.tile(np.sqrt(variance), (len(valid), 1))


def averaged_training(betas: np.ndarray, rows: pd.DataFrame, valid: np.ndarray) -> Table:
    """One mean and sample deviation over training images averaged over repeats (Brain-Diffuser)."""
    training = ~rows["shared"].to_numpy()
    _, means = average_repeats(betas[training], rows.loc[training, "id"].to_numpy())
    mean, std = means.mean(axis=0, dtype=np.float64), means.std(axis=0, ddof=1, dtype=np.float64)
    return np.tile(mean, (len(valid), 1)), np.tile(std, (len(valid), 1))


NORMALISATIONS: dict[str, Callable[[np.ndarray, pd.DataFrame, np.ndarray], Table]] = {
    "global_training": global_training,
    "session_training": session_training,
    "session_all": session_all,
    "averaged_training": averaged_training,
}


def measure(betas: np.ndarray, rows: pd.DataFrame, *, normalisation: str) -> Statistics:
    """The statistics by which a convention normalises each session.

    Args:
        betas: (trials, voxels) in percent signal change.
        rows: ``session``, ``id`` and ``shared`` of each trial.
        normalisation: a name in ``NORMALISATIONS``.
    """
    sessions = _sessions(rows)
    parts = (betas[(rows["session"] == session).to_numpy()] for session in sessions)
    varies = np.stack([np.ptp(part, axis=0) > 0 for part in parts])
    mean, std = NORMALISATIONS[normalisation](betas, rows, varies)
    return Statistics(session=sessions, mean=mean, std=std, valid=varies & (std > 0))


def normalise(betas: np.ndarray, rows: pd.DataFrame, statistics: Statistics) -> np.ndarray:
    """(betas - mean) / std of each trial's session, float32; 0 where a voxel is not valid."""
    scale = np.divide(1, statistics.std, out=np.zeros_like(statistics.std), where=statistics.valid)
    normalised = np.empty_like(betas)
    for number, session in enumerate(statistics.session):
        here = (rows["session"] == session).to_numpy()
        normalised[here] = (betas[here] - statistics.mean[number]) * scale[number]
    return normalised


# --- voxels that carry nothing in some session -------------------------------------------------


def _keep_all(statistics: Statistics) -> np.ndarray:
    return np.ones(statistics.valid.shape[1], bool)


def _keep_valid(statistics: Statistics) -> np.ndarray:
    return statistics.valid.all(axis=0)


INVALID_VOXELS: dict[str, Callable[[Statistics], np.ndarray]] = {
    "zero": _keep_all,
    "drop": _keep_valid,
}
