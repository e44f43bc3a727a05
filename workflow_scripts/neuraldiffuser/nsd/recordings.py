"""A subject's single-trial betas as they are stored, session by session, joined to their trials.

Sessions stay in the 16 bits that NSD stores. What is computed from them is computed in blocks of
voxels or session by session, so a second copy of them all never exists.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

import numpy as np
import pandas as pd

from neuraldiffuser import runtime, storage
from neuraldiffuser.errors import DataError
from neuraldiffuser.nsd import betas, files
from neuraldiffuser.nsd.selection import Selection

RENORMALISED = "_renorm.hdf5"  # how the name of MindEye2's file of all sessions ends


@dataclass(frozen=True)
class Recordings:
    """The betas of the sessions used, and their trials in the same order."""

    sessions: list[np.ndarray]  # stored values (trials, voxels), a session each, ascending
    trials: pd.DataFrame  # session, id, repeat, shared of every trial of these sessions
    missing: tuple[int, ...] = ()  # sessions asked for that do not exist
    renormalised: bool = False  # whether their source normalised the values, which then stay

    @property
    def units(self) -> int:
        """Stored units per unit of what ``betas`` returns: percent signal change, if not kept."""
        return 1 if self.renormalised else betas.UNITS_PER_PERCENT

    @property
    def numbers(self) -> np.ndarray:
        """(sessions,) their 1-based numbers."""
        return np.unique(self.trials["session"])

    def trials_of(self, session: int) -> pd.DataFrame:
        """Those of one session (1-based)."""
        return self.trials[self.trials["session"] == session]

    def valid(self) -> np.ndarray:
        """(sessions, voxels) bool: where a voxel has data; a constant, NSD's zero, is none.

        Renormalised values bear no such mark, so all of them count as data.
        """
        if self.renormalised:
            return np.ones((len(self.sessions), self.sessions[0].shape[1]), bool)
        return np.stack([rows.max(axis=0) != rows.min(axis=0) for rows in self.sessions])

    def betas(self, place: int, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Chosen trials and voxels of the session at a place in the list, float32."""
        return self.sessions[place][rows][:, columns].astype(np.float32) / self.units

    def block(self, columns: slice) -> np.ndarray:
        """Some voxels of all trials, float32 (trials, columns)."""
        parts = [rows[:, columns] for rows in self.sessions]
        return np.concatenate(parts, dtype=np.float32) / self.units


def read_recordings(
    paths: Iterable[Path | str],
    *,
    selection: Selection,
    trials: pd.DataFrame,
    sessions: Sequence[int],
    missing: Sequence[int] = (),
) -> Recordings:
    """Reads the sessions used.

    Args:
        paths: one file per session, in any order; or MindEye2's one file.
        selection: the voxels to read.
        trials: the table of ``design.join_trials``.
        sessions: numbers (1-based) of those to use, ascending.
        missing: numbers of those that were asked for but do not exist.

    Raises:
        DataError: a file is missing, damaged, or does not fit the trials or voxels.
    """
    paths = list(map(str, paths))
    if paths and paths[0].endswith(RENORMALISED):
        found = read_renormalised(paths[0], selection=selection, trials=trials, sessions=sessions)
    else:
        given = {files.session_number(path): path for path in paths}
        lacking = [session for session in sessions if session not in given]
        if lacking:
            raise DataError(f"The betas of session {lacking[0]} were not given; fetch them.")
        chosen = {session: given[session] for session in sessions}
        found = read_sessions(chosen, selection=selection, trials=trials)
    return dataclasses.replace(found, missing=tuple(missing))


def read_sessions(
    paths: Mapping[int, str], *, selection: Selection, trials: pd.DataFrame
) -> Recordings:
    """Reads NSD's files, several at once.

    Args:
        paths: by session, ascending.
        selection: the voxels to read.
        trials: the table of ``design.join_trials``.
    """
    chosen = [_trials_of(trials, session, path) for session, path in paths.items()]
    with ThreadPoolExecutor(runtime.execution().threads) as pool:
        arriving = pool.map(_read, paths.values(), map(len, chosen), repeat(selection))
        bar = runtime.progress(
            arriving, total=len(paths), description="reading sessions", unit="session"
        )
        rows = list(bar)
    return Recordings(rows, pd.concat(chosen, ignore_index=True))


def _read(path: str, planned: int, selection: Selection) -> np.ndarray:
    rows = betas.read_session(path, index=selection.index, volume_shape=selection.volume_shape)
    if len(rows) != planned:
        raise DataError(
            f"{path} holds {len(rows)} trials, but the subject's responses.tsv lists {planned}; "
            "fetch the two again."
        )
    return rows


def read_renormalised(
    path: str, *, selection: Selection, trials: pd.DataFrame, sessions: Sequence[int]
) -> Recordings:
    """Maps MindEye2's file: ``betas`` float32 (trials, voxels), trials in the order of scanning.

    Source: huggingface.co/datasets/pscotti/mindeyev2, ``betas_all_subj01_fp32_renorm.hdf5``.
    """
    chosen = [_trials_of(trials, session, path) for session in sessions]
    rows = storage.map_array(path, "betas")
    expected = (len(trials), len(selection.index))
    if rows.shape != expected or rows.dtype.kind != "f":
        raise DataError(
            f"{path} holds betas of shape {rows.shape} and type {rows.dtype}, where the subject's "
            f"trials and nsdgeneral voxels ask for {expected} and float32; it belongs to another "
            "subject or has to be fetched again."
        )
    parts = [rows[part.index[0] : part.index[-1] + 1] for part in chosen]
    for part in parts:
        storage.require_finite(part, path)
    return Recordings(parts, pd.concat(chosen, ignore_index=True), renormalised=True)


def _trials_of(trials: pd.DataFrame, session: int, path: str) -> pd.DataFrame:
    found = trials[trials["session"] == session]
    if found.empty:
        raise DataError(
            f"{path} should hold session {session}, of which the subject's responses.tsv knows no "
            "trial; lower the subject's number in nsd.sessions."
        )
    return found
