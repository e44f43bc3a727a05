"""A subject's voxels: masked, normalised single-trial betas, each row joined to its 73k id."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from neuraldiffuser import runtime, storage
from neuraldiffuser.nsd.normalisation import Statistics, normalise
from neuraldiffuser.nsd.recordings import Recordings
from neuraldiffuser.nsd.repeats import average_repeats, count_trials
from neuraldiffuser.nsd.selection import Selection

SPLITS = {"training": False, "test": True}  # whether their images are shared by all subjects
IDENTITY = ("id", "repeat", "session")


@dataclass(frozen=True)
class Trials:
    """Rows of one split: betas float32 (trials, voxels) and, per row, int64 (trials,) identity."""

    betas: np.ndarray  # 0 where a voxel has no value in the trial's session
    id: np.ndarray  # 0-based 73k id
    repeat: np.ndarray  # 0, 1, 2: how often the image had been shown before
    session: np.ndarray  # 1-based
    statistics: Statistics  # of the sessions: where voxels have a value

    def averaged(self, missing_repeats: str = "skipped") -> tuple[np.ndarray, np.ndarray]:
        """Means over repeats: ids (images,) ascending, betas float32 (images, voxels).

        A trial counts for the voxels that have a value in its session; a mean is 0 where none has.

        Args:
            missing_repeats: a name in ``repeats.MISSING_REPEATS``.
        """
        times = count_trials(self.id, self.repeat, missing_repeats=missing_repeats)
        ids, means = average_repeats(self.betas, self.id, times=times)
        valid = self.statistics.valid
        some = np.flatnonzero(~valid.all(axis=0))
        present = valid[:, some][self.statistics.places(self.session)]
        _, means[:, some] = average_repeats(
            self.betas[:, some], self.id, times=times, present=present
        )
        return ids, means

    def count_repeats(self) -> np.ndarray:
        """How many trials each image has (images,) int64, in the order of ``averaged``."""
        return np.unique(self.id, return_counts=True)[1]


@dataclass(frozen=True)
class Voxels:
    """Everything in ``voxels/{subject}.h5``."""

    subject: str
    selection: Selection
    training: Trials
    test: Trials
    statistics: Statistics
    missing_sessions: tuple[int, ...]  # asked for, but not in the bucket
    dropped_voxels: int  # of nsdgeneral, for lack of data in some session

    def averaged(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Means over existing repeats: ids (images,) ascending, betas float32 (images, voxels)."""
        trials: Trials = getattr(self, split)
        return trials.averaged()


def write_voxels(
    path: Path | str,
    *,
    subject: str,
    recordings: Recordings,
    selection: Selection,
    statistics: Statistics,
    keep: np.ndarray,
) -> None:
    """Normalises recordings and writes ``voxels/{subject}.h5``, session by session.

    Args:
        path: where it goes.
        subject: such as "subj01".
        recordings: the sessions used.
        selection: their voxels.
        statistics: of ``normalisation.measure``.
        keep: (voxels,) bool, the voxels that are written.
    """
    chosen, known = statistics.choose(keep), selection.choose(keep)
    with storage.create_arrays(path) as file:
        file.attrs["subject"] = subject
        file.attrs["volume_shape"] = known.volume_shape
        file.attrs["missing_sessions"] = np.array(recordings.missing, np.int64)
        file.attrs["dropped_voxels"] = int((~keep).sum())
        for group, values in (("voxel", known), ("statistics", chosen)):
            for name in _arrays_of(type(values)):
                file[f"{group}/{name}"] = getattr(values, name)
        for split in SPLITS:
            _write_split(file, split, recordings, chosen, keep)


def _write_split(
    file: h5py.File, split: str, recordings: Recordings, statistics: Statistics, keep: np.ndarray
) -> None:
    trials = recordings.trials[recordings.trials["shared"] == SPLITS[split]]
    for name in IDENTITY:
        file[f"{split}/{name}"] = trials[name].to_numpy()
    betas = file.create_dataset(f"{split}/betas", (len(trials), keep.sum()), np.float32)
    progress = {"description": f"normalising {split} trials", "unit": "session"}
    for place, session in enumerate(runtime.progress(statistics.session, **progress)):
        rows = recordings.trials_of(session)["shared"].to_numpy() == SPLITS[split]
        found = recordings.betas(place, rows, keep)
        start = np.searchsorted(trials["session"], session)
        betas[start : start + len(found)] = normalise(
            found, statistics, session=session, split=split
        )


# --- reading -----------------------------------------------------------------------------------


def read_voxels(path: Path | str) -> Voxels:
    """Reads ``voxels/{subject}.h5``; betas are mapped, so only rows that are used are loaded.

    Raises:
        DataError: the file is missing or damaged.
    """
    attributes = storage.read_attributes(path)
    statistics = Statistics(**_read_group(path, "statistics", Statistics))
    shape = tuple(int(size) for size in attributes["volume_shape"])
    return Voxels(
        subject=str(attributes["subject"]),
        selection=Selection(volume_shape=shape, **_read_group(path, "voxel", Selection)),
        statistics=statistics,
        missing_sessions=tuple(int(number) for number in attributes["missing_sessions"]),
        dropped_voxels=int(attributes["dropped_voxels"]),
        **{split: _read_trials(path, split, statistics) for split in SPLITS},
    )


def _read_trials(path: Path | str, split: str, statistics: Statistics) -> Trials:
    identity = {name: storage.read_array(path, f"{split}/{name}") for name in IDENTITY}
    betas = storage.map_array(path, f"{split}/betas")
    return Trials(betas=betas, statistics=statistics, **identity)


def _read_group(path: Path | str, group: str, kind: type) -> dict[str, np.ndarray]:
    return {name: storage.read_array(path, f"{group}/{name}") for name in _arrays_of(kind)}


def _arrays_of(kind: type) -> list[str]:
    return [field.name for field in dataclasses.fields(kind) if field.name != "volume_shape"]
