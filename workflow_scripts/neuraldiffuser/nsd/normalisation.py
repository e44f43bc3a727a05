"""Normalisation of betas, affine per session and voxel.

Every convention is a table of means and deviations (sessions, voxels); ``NORMALISATIONS`` holds
one function per convention, ``INVALID_VOXELS`` one per treatment of voxels without data. A voxel
that is constant through a session has no data there (NSD's mark is zero): no statistic counts it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from neuraldiffuser import runtime
from neuraldiffuser.errors import DataError
from neuraldiffuser.nsd.recordings import Recordings
from neuraldiffuser.nsd.repeats import sum_repeats

VOXELS_AT_ONCE = 128  # 31 MB in 40 sessions of 750 trials
ROUNDING = 1e-9  # a deviation smaller than this share of the mean is that of equal values
TABLES = {"training": ("mean", "std"), "test": ("test_mean", "test_std")}


class Table(NamedTuple):
    """Float64 (sessions, voxels): what the trials of each split are centred and divided by."""

    mean: np.ndarray
    std: np.ndarray
    test_mean: np.ndarray
    test_std: np.ndarray


@dataclass(frozen=True)
class Statistics:
    """How betas were normalised; every array but the first is (sessions, voxels)."""

    session: np.ndarray  # (sessions,) 1-based
    valid: np.ndarray  # bool; False where a voxel is constant, and so has no value
    mean: np.ndarray  # float64, of training trials; 0 where not valid
    std: np.ndarray
    test_mean: np.ndarray  # of test trials; another one only for session_all_then_split
    test_std: np.ndarray

    def choose(self, keep: np.ndarray) -> "Statistics":
        """Those of the voxels at which ``keep`` (voxels,) is True."""
        tables = {name: getattr(self, name)[:, keep] for name in ("valid", *Table._fields)}
        return Statistics(session=self.session, **tables)

    def places(self, sessions: np.ndarray) -> np.ndarray:
        """The row of each 1-based session in the tables."""
        return np.searchsorted(self.session, sessions)


@dataclass(frozen=True)
class Block:
    """Some voxels of all sessions.

    Attributes:
        betas: (trials, voxels) float64.
        session: (sessions,) 1-based.
        place: (trials,) row of each trial's session in ``session`` and ``valid``.
        id: (trials,) image of each trial.
        shared: (trials,) bool, whether all subjects saw the image, so that it is tested.
        valid: (sessions, voxels) bool, False where a voxel has no value.
    """

    betas: np.ndarray
    session: np.ndarray
    place: np.ndarray
    id: np.ndarray
    shared: np.ndarray
    valid: np.ndarray

    @cached_property
    def present(self) -> np.ndarray:
        """(trials, voxels) bool."""
        return self.valid[self.place]


# --- the conventions ---------------------------------------------------------------------------


def global_training(block: Block) -> Table:
    """All training trials: what MindEye2's renormalised betas are said to be (released)."""
    training = ~block.shared
    return _everywhere(block, *_spread(block.betas[training], block.present[training]))


def session_training(block: Block) -> Table:
    """The training trials of each session, so that drift goes and no test trial is seen."""
    return _by_session(block, ~block.shared)


def session_all(block: Block) -> Table:
    """All trials of each session, test images included (MindEye, MindEye2's notebook)."""
    return _by_session(block, np.ones(len(block.id), bool))


def session_all_then_split(block: Block) -> Table:
    """Twice: all trials of each session, then each split by itself (the authors' first release).

    Training trials by their own mean and deviation, test trials by those of the averaged test
    images, which the first release standardised over the test set.
    """
    first, training, test = session_all(block), ~block.shared, block.shared
    rows = (block.betas - first.mean[block.place]) * invert(first.std)[block.place]
    means, known = _average(rows[test], block.id[test], block.present[test])
    mean, std = _spread(rows[training], block.present[training])
    test_mean, test_std = _spread(means, known)
    return Table(
        first.mean + first.std * mean,
        first.std * std,
        first.mean + first.std * test_mean,
        first.std * test_std,
    )


def averaged_training(block: Block) -> Table:
    """Training images averaged over repeats, with the sample deviation (Brain-Diffuser)."""
    training = ~block.shared
    means, known = _average(block.betas[training], block.id[training], block.present[training])
    return _everywhere(block, *_spread(means, known, freedom=1))


def none(block: Block) -> Table:
    """Betas as they come: percent signal change, or values that their source normalised."""
    return _everywhere(block, np.zeros(block.valid.shape[1]), np.ones(block.valid.shape[1]))


NORMALISATIONS: dict[str, Callable[[Block], Table]] = {
    "global_training": global_training,
    "session_training": session_training,
    "session_all": session_all,
    "session_all_then_split": session_all_then_split,
    "averaged_training": averaged_training,
    "none": none,
}


def _spread(
    rows: np.ndarray, present: np.ndarray, *, freedom: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation down each column of the values that are present; 0 where none is."""
    count = present.sum(axis=0)
    mean = np.where(present, rows, 0).sum(axis=0) / np.maximum(count, 1)
    squares = np.where(present, rows - mean, 0) ** 2
    std = np.sqrt(squares.sum(axis=0) / np.maximum(count - freedom, 1))
    return mean, np.where(std > ROUNDING * np.abs(mean), std, 0)


def _average(
    rows: np.ndarray, ids: np.ndarray, present: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Means (images, voxels) over the repeats present, and whether any was."""
    _, sums, counts = sum_repeats(rows, ids, times=np.ones(len(ids)), present=present)
    return sums / np.maximum(counts, 1), counts > 0


def _by_session(block: Block, chosen: np.ndarray) -> Table:
    here = [chosen & (block.place == place) for place in range(len(block.valid))]
    empty = [session for session, rows in zip(block.session, here, strict=True) if not rows.any()]
    if empty:
        raise DataError(
            f"Session {empty[0]} has no training trial to normalise with; choose another "
            "voxels.normalisation, or use other sessions (nsd.sessions)."
        )
    spreads = [_spread(block.betas[rows], block.present[rows]) for rows in here]
    mean, std = map(np.stack, zip(*spreads, strict=True))
    return Table(mean, std, mean, std)


def _everywhere(block: Block, mean: np.ndarray, std: np.ndarray) -> Table:
    """One mean and deviation (voxels,) for all sessions in which a voxel is valid."""
    mean, std = mean * block.valid, std * block.valid
    return Table(mean, std, mean, std)


# --- from recordings to normalised rows --------------------------------------------------------


def measure(recordings: Recordings, *, normalisation: str) -> Statistics:
    """The statistics by which a convention normalises each session.

    Args:
        recordings: the sessions used.
        normalisation: a name in ``NORMALISATIONS``.

    Raises:
        DataError: a session has no training trial, and its statistics are to come from those.
    """
    valid = recordings.valid()
    blocks = runtime.progress(
        _blocks(recordings, valid),
        total=-(-valid.shape[1] // VOXELS_AT_ONCE),
        description="measuring",
        unit="block",
    )
    tables = [NORMALISATIONS[normalisation](block) for block in blocks]
    table = Table(*(np.concatenate(parts, axis=1) for parts in zip(*tables, strict=True)))
    return Statistics(recordings.numbers, valid & (table.std > 0), *table)


def _blocks(recordings: Recordings, valid: np.ndarray) -> Iterator[Block]:
    trials, numbers = recordings.trials, recordings.numbers
    for first in range(0, valid.shape[1], VOXELS_AT_ONCE):
        columns = slice(first, first + VOXELS_AT_ONCE)
        yield Block(
            betas=recordings.block(columns).astype(np.float64),
            session=numbers,
            place=np.searchsorted(numbers, trials["session"]),
            id=trials["id"].to_numpy(),
            shared=trials["shared"].to_numpy(),
            valid=valid[:, columns],
        )


def normalise(betas: np.ndarray, statistics: Statistics, *, session: int, split: str) -> np.ndarray:
    """(betas - mean) / std, float32; 0 where a voxel is not valid.

    Args:
        betas: (trials, voxels) of one session and split.
        statistics: of the same voxels.
        session: 1-based.
        split: "training" or "test".
    """
    place = statistics.places(session)
    mean, std = (getattr(statistics, name)[place] for name in TABLES[split])
    normalised = betas - mean
    normalised *= invert(std) * statistics.valid[place]
    return normalised.astype(np.float32)


def invert(deviation: np.ndarray) -> np.ndarray:
    """1 / deviation, and 0 where it is 0."""
    return np.divide(1, deviation, out=np.zeros_like(deviation), where=deviation > 0)


# --- voxels that have no data in some session --------------------------------------------------


def keep_all(statistics: Statistics, _subject: str) -> np.ndarray:
    """Every voxel (voxels,) bool; one without data in a session is missing there."""
    return np.ones(statistics.valid.shape[1], bool)


def keep_valid(statistics: Statistics, subject: str) -> np.ndarray:
    """The voxels (voxels,) bool with data in every session."""
    keep = statistics.valid.all(axis=0)
    if not keep.any():
        raise DataError(
            f"Every voxel of {subject} is constant through some session, so none is left; set "
            "voxels.invalid_voxels to missing."
        )
    return keep


def refuse_invalid(statistics: Statistics, subject: str) -> np.ndarray:
    """Every voxel (voxels,) bool, if each has data in every session."""
    lost = ~statistics.valid
    if lost.any():
        raise DataError(
            f"{lost.any(axis=0).sum()} voxels of {subject} are zero or constant through a whole "
            f"session, {statistics.session[lost.any(axis=1)][0]} among them; set "
            "voxels.invalid_voxels to missing or dropped."
        )
    return keep_all(statistics, subject)


INVALID_VOXELS: dict[str, Callable[[Statistics, str], np.ndarray]] = {
    "missing": keep_all,
    "dropped": keep_valid,
    "refused": refuse_invalid,
}
