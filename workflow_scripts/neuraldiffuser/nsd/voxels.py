"""A subject's voxels: masked, normalised single-trial betas, each row joined to its 73k id."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from neuraldiffuser import runtime, storage
from neuraldiffuser.errors import DataError
from neuraldiffuser.nsd import files, rois
from neuraldiffuser.nsd.betas import read_session
from neuraldiffuser.nsd.noise_ceiling import noise_ceiling
from neuraldiffuser.nsd.normalisation import (
    INVALID_VOXELS,
    Statistics,
    average_repeats,
    measure,
    normalise,
)

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
