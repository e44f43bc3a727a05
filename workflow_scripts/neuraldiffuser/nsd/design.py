"""The experimental design: which image each trial of a subject showed."""

from pathlib import Path

import numpy as np
import pandas as pd
import scipy.io

from neuraldiffuser.errors import DataError

COLUMNS = ("SESSION", "RUN", "TRIAL", "73KID")


def subject_number(subject: str) -> int:
    """1 for "subj01"."""
    return int(subject.removeprefix("subj"))


def read_design(path: Path | str, *, subject: str) -> pd.DataFrame:
    """The planned trials of a subject.

    Args:
        path: nsd_expdesign.mat with ``masterordering`` (1, trials), ``subjectim`` (subjects,
            images) and ``sharedix`` (1, shared), all 1-based.
        subject: such as "subj01".

    Returns:
        One row per trial: ``id`` (0-based 73k id), ``shared`` (whether all subjects see it).

    Raises:
        DataError: the file is missing or damaged, or does not know the subject.
    """
    ordering, images, shared = _read_matrices(path)
    number = subject_number(subject)
    if number > len(images):
        raise DataError(f"{path} knows {len(images)} subjects, not {subject}.")
    own = images[number - 1]
    _require_whole(path, subject, ordering=ordering, own=own, shared=shared)
    ids = own[ordering]
    return pd.DataFrame({"id": ids, "shared": np.isin(ids, shared)})


def _read_matrices(path: Path | str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """masterordering, subjectim and sharedix, all counted from 0."""
    if not Path(path).is_file():
        raise DataError(f"{path} is missing; fetch it again.")
    try:
        design = scipy.io.loadmat(path)
        ordering = design["masterordering"].ravel().astype(np.int64) - 1
        images = design["subjectim"].astype(np.int64) - 1
        shared = design["sharedix"].ravel().astype(np.int64) - 1
    except Exception as error:  # scipy raises many kinds on a damaged file
        raise DataError(f"{path} is no NSD design ({error}); delete it and run again.") from error
    return ordering, images, shared


def _require_whole(
    path: Path | str, subject: str, *, ordering: np.ndarray, own: np.ndarray, shared: np.ndarray
) -> None:
    """Raises DataError unless a subject's images are distinct and hold all that are referred to."""
    if len(np.unique(own)) < len(own):
        raise DataError(
            f"{path}: subjectim lists an image of {subject} twice; delete it and run again."
        )
    if len(ordering) and not 0 <= ordering.min() <= ordering.max() < len(own):
        raise DataError(
            f"{path}: masterordering points to images {ordering.min() + 1} to "
            f"{ordering.max() + 1}, but subjectim lists {len(own)} of {subject}; delete it and run "
            "again."
        )
    unseen = np.setdiff1d(shared, own)
    if len(unseen):
        raise DataError(
            f"{path}: {len(unseen)} of the {len(shared)} images of sharedix are not among those of "
            f"{subject} in subjectim; delete it and run again."
        )


def read_responses(path: Path | str) -> pd.DataFrame:
    """The trials that took place, in order: session, run, trial (1-based), id (0-based 73k id).

    Raises:
        DataError: the file is missing or lacks a column, or a trial is listed twice.
    """
    try:
        table = pd.read_csv(path, sep="\t", usecols=list(COLUMNS))
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing; fetch it again.") from error
    except ValueError as error:
        raise DataError(f"{path} lacks columns of NSD's responses ({error}).") from error
    if any(kind.kind not in "if" for kind in table.dtypes) or (table % 1 != 0).any(axis=None):
        raise DataError(f"{path} has a trial that is not told in whole numbers; fetch it again.")
    if table.duplicated(["SESSION", "RUN", "TRIAL"]).any():
        raise DataError(f"{path} lists a trial twice; fetch it again.")
    ordered = table.sort_values(["SESSION", "RUN", "TRIAL"], ignore_index=True).astype(np.int64)
    renamed = ordered.rename(columns=str.lower).rename(columns={"73kid": "id"})
    return renamed.assign(id=renamed["id"] - 1)


def join_trials(
    *, path_to_design: Path | str, path_to_responses: Path | str, subject: str
) -> pd.DataFrame:
    """The trials of a subject with their images, checked against the planned design.

    Returns:
        One row per trial in the order of scanning, which is that of a session's betas:
        ``session`` (1-based), ``id`` (0-based 73k id), ``repeat`` (0, 1, 2: how often the image
        was shown before) and ``shared``.

    Raises:
        DataError: a file is damaged, or a trial is not the one that the design planned.
    """
    planned = read_design(path_to_design, subject=subject)
    shown = read_responses(path_to_responses)
    if len(shown) > len(planned):
        raise DataError(
            f"{path_to_responses} lists {len(shown)} trials, but {path_to_design} plans "
            f"{len(planned)} for {subject}; the two belong to different releases, or one has to be "
            "fetched again."
        )
    wrong = np.flatnonzero(planned["id"].to_numpy()[: len(shown)] != shown["id"].to_numpy())
    if len(wrong):
        raise DataError(
            f"{path_to_responses}: trial {wrong[0]} shows an image that {path_to_design} does not "
            f"plan for {subject} there; the two belong to different subjects or releases."
        )
    return shown[["session", "id"]].assign(
        repeat=shown.groupby("id").cumcount(),
        shared=planned["shared"].to_numpy()[: len(shown)],
    )


def require_splits(trials: pd.DataFrame, *, source: Path | str) -> None:
    """Raises DataError unless there are trials to train and trials to test on.

    Args:
        trials: ``shared`` of every trial that is used.
        source: the file that lists the trials, for the message.
    """
    for split, chosen in (("test", trials["shared"]), ("training", ~trials["shared"])):
        if not chosen.any():
            raise DataError(
                f"{source} leaves no {split} trial in the {trials['session'].nunique()} sessions "
                "that are used and exist; raise the subject's number in nsd.sessions, or leave the "
                "subject out."
            )
