"""A subject's voxels: masked, normalised single-trial betas, each row joined to its 73k id.

Normalisation is affine per session and voxel, so every convention is a table of means and
deviations (sessions, voxels); ``NORMALISATIONS`` holds one function per convention.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from neuraldiffuser import runtime, storage
from neuraldiffuser.errors import DataError
from neuraldiffuser.nsd import files, rois
from neuraldiffuser.nsd.betas import read_session
from neuraldiffuser.nsd.noise_ceiling import noise_ceiling

SPLITS = ("training", "test")


@dataclass(frozen=True)
class Trials:
    """Rows of one split: betas float32 (trials, voxels) and, per row, int64 (trials,) identity."""

    betas: np.ndarray
    id: np.ndarray  # 0-based 73k id
    repeat: np.ndarray  # 0, 1, 2: how often the image had been shown before
    session: np.ndarray  # 1-based


@dataclass(frozen=True)
class Selection:
    """The nsdgeneral voxels of a volume and what is known of each."""

    volume_shape: tuple[int, int, int]
    index: np.ndarray  # (voxels,) int64, flat C-order index into the volume
    roi: np.ndarray  # (voxels,) uint8, prf-visualrois label, 0 = none
    noise_ceiling: np.ndarray  # (voxels,) float32, percent of the variance of a three-trial mean


@dataclass(frozen=True)
class Statistics:
    """Affine normalisation: means and deviations, float64 (sessions, voxels)."""

    session: np.ndarray  # (sessions,) 1-based
    mean: np.ndarray
    std: np.ndarray
    valid: np.ndarray  # bool; False where a voxel is constant and so carries nothing


@dataclass(frozen=True)
class Voxels:
    """Everything in ``voxels/{subject}.h5``."""

    subject: str
    selection: Selection
    training: Trials
    test: Trials
    statistics: Statistics

    def averaged(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Means over existing repeats: ids (images,) ascending, betas float32 (images, voxels)."""
        trials: Trials = getattr(self, split)
        return average_repeats(trials.betas, trials.id)


def average_repeats(rows: np.ndarray, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means of the rows with equal id: ids ascending (images,), means float32 (images, columns)."""
    order = np.argsort(ids, kind="stable")
    unique, first, counts = np.unique(ids[order], return_index=True, return_counts=True)
    sums = np.add.reduceat(rows[order], first, axis=0, dtype=np.float64)
    means = (sums / counts[:, None]).astype(np.float32)
    return unique, means


# --- reading the bucket's files --------------------------------------------------------------


def read_selection(
    *, path_to_mask: Path | str, path_to_areas: Path | str, path_to_ncsnr: Path | str
) -> Selection:
    """The nsdgeneral voxels with their visual areas and noise ceilings.

    Raises:
        DataError: a volume is damaged, the three differ in shape, no voxel is in nsdgeneral, or a
            noise ceiling is negative or infinite.
    """
    mask, areas, ncsnr = map(rois.read_volume, (path_to_mask, path_to_areas, path_to_ncsnr))
    if not mask.shape == areas.shape == ncsnr.shape:
        raise DataError(
            f"{path_to_mask}, {path_to_areas} and {path_to_ncsnr} have shapes {mask.shape}, "
            f"{areas.shape} and {ncsnr.shape}; expected one shape: fetch them again."
        )
    index = rois.nsdgeneral_index(mask)
    if not len(index):
        raise DataError(f"{path_to_mask} has no voxel with label 1; fetch it again.")
    # A voxel without a full set of data has NaN here, and no signal to explain.
    ratios = np.nan_to_num(ncsnr.ravel()[index].astype(np.float64), nan=0.0)
    storage.require_finite(ratios, str(path_to_ncsnr))
    return Selection(
        volume_shape=tuple(map(int, mask.shape)),
        index=index,
        roi=rois.visual_labels(areas, index=index),
        noise_ceiling=noise_ceiling(ratios).astype(np.float32),
    )


def read_betas(
    paths: Iterable[Path | str], *, selection: Selection, trials: pd.DataFrame
) -> tuple[np.ndarray, pd.DataFrame]:
    """The betas of all sessions and their trials, rows in equal order.

    Args:
        paths: one file per session, in any order.
        selection: the voxels to read.
        trials: the table of ``design.join_trials``.

    Returns:
        betas (trials, voxels) float32 in percent signal change, and the rows of ``trials``.

    Raises:
        DataError: a session's file is damaged, or the design knows other trials than it holds.
    """
    paths = sorted(map(str, paths), key=files.session_number)
    rows = pd.concat([_trials_of(path, trials) for path in paths], ignore_index=True)
    betas = np.empty((len(rows), len(selection.index)), np.float32)
    for path in runtime.progress(paths, description="reading sessions", unit="session"):
        here = (rows["session"] == files.session_number(path)).to_numpy()
        found = read_session(path, index=selection.index, volume_shape=selection.volume_shape)
        if len(found) != here.sum():
            raise DataError(
                f"{path} holds {len(found)} trials where the design knows {here.sum()}; fetch it "
                "or the subject's responses.tsv again."
            )
        betas[here] = found[rows.loc[here, "position"]]
    return betas, rows


def _trials_of(path: str, trials: pd.DataFrame) -> pd.DataFrame:
    session = files.session_number(path)
    found = trials[trials["session"] == session]
    if found.empty:
        raise DataError(
            f"{path} is session {session}, of which the subject's responses.tsv knows no trial; "
            "lower the subject's number in nsd.sessions."
        )
    return found


# --- normalisation ---------------------------------------------------------------------------


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


# --- the artefact ------------------------------------------------------------------------------


def build_voxels(
    betas: np.ndarray,
    rows: pd.DataFrame,
    *,
    subject: str,
    selection: Selection,
    normalisation: str,
    invalid_voxels: str,
) -> Voxels:
    """Normalises betas (trials, voxels) and splits them into training and test (shared) trials."""
    statistics = measure(betas, rows, normalisation=normalisation)
    keep = INVALID_VOXELS[invalid_voxels](statistics)
    normalised = normalise(betas, rows, statistics)[:, keep]
    shared = rows["shared"].to_numpy()
    return Voxels(
        subject=subject,
        selection=_choose_voxels(selection, keep),
        training=_split(normalised, rows, ~shared),
        test=_split(normalised, rows, shared),
        statistics=Statistics(
            session=statistics.session,
            mean=statistics.mean[:, keep],
            std=statistics.std[:, keep],
            valid=statistics.valid[:, keep],
        ),
    )


def _choose_voxels(selection: Selection, keep: np.ndarray) -> Selection:
    return Selection(
        volume_shape=selection.volume_shape,
        index=selection.index[keep],
        roi=selection.roi[keep],
        noise_ceiling=selection.noise_ceiling[keep],
    )


def _split(betas: np.ndarray, rows: pd.DataFrame, chosen: np.ndarray) -> Trials:
    columns = {name: rows[name].to_numpy()[chosen] for name in ("id", "repeat", "session")}
    return Trials(betas=betas[chosen], **columns)


def write_voxels(path: Path | str, voxels: Voxels) -> None:
    """Writes ``voxels/{subject}.h5``."""
    arrays = {
        f"{split}/{name}": getattr(getattr(voxels, split), name)
        for split in SPLITS
        for name in ("betas", "id", "repeat", "session")
    }
    arrays |= {
        f"voxel/{name}": getattr(voxels.selection, name)
        for name in ("roi", "noise_ceiling", "index")
    }
    arrays |= {
        f"statistics/{name}": getattr(voxels.statistics, name)
        for name in ("session", "mean", "std", "valid")
    }
    attributes = {"subject": voxels.subject, "volume_shape": voxels.selection.volume_shape}
    storage.write_arrays(path, arrays, attributes)


def read_voxels(path: Path | str) -> Voxels:
    """Reads ``voxels/{subject}.h5``; raises DataError where it is missing or damaged."""
    attributes = storage.read_attributes(path)
    parts = {split: Trials(**_read_group(path, split, Trials)) for split in SPLITS}
    shape = tuple(int(size) for size in attributes["volume_shape"])
    return Voxels(
        subject=str(attributes["subject"]),
        selection=Selection(volume_shape=shape, **_read_group(path, "voxel", Selection)),
        statistics=Statistics(**_read_group(path, "statistics", Statistics)),
        **parts,
    )


def _read_group(path: Path | str, group: str, kind: type) -> dict[str, np.ndarray]:
    names = [name for name in kind.__dataclass_fields__ if name != "volume_shape"]
    return {name: storage.read_array(path, f"{group}/{name}") for name in names}
