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
    if not Path(path).is_file():
        raise DataError(f"{path} is missing; fetch it again.")
    try:
        design = scipy.io.loadmat(path)
        ordering = design["masterordering"].ravel().astype(np.int64) - 1
        images = design["subjectim"].astype(np.int64) - 1
        shared = design["sharedix"].ravel().astype(np.int64) - 1
    except Exception as error:  # scipy raises many kinds on a damaged file
        raise DataError(f"{path} is no NSD design ({error}); delete it and run again.") from error
    number = subject_number(subject)
    if number > len(images):
        raise DataError(f"{path} knows {len(images)} subjects, not {subject}.")
    ids = images[number - 1, ordering]
    return pd.DataFrame({"id": ids, "shared": np.isin(ids, shared)})


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
    if table.duplicated(["SESSION", "RUN", "TRIAL"]).any() or table.isna().any(axis=None):
        raise DataError(f"{path} lists a trial twice or without its image; fetch it again.")
    ordered = table.sort_values(["SESSION", "RUN", "TRIAL"], ignore_index=True).astype(np.int64)
    renamed = ordered.rename(columns=str.lower).rename(columns={"73kid": "id"})
    return renamed.assign(id=renamed["id"] - 1)


def join_trials(
    *, path_to_design: Path | str, path_to_responses: Path | str, subject: str
) -> pd.DataFrame:
    """The trials of a subject with their images, checked against the planned design.

    Returns:
        One row per trial in the order of scanning: ``session`` (1-based), ``position`` (0-based
        within its session: the row of that session's betas), ``id`` (0-based 73k id), ``repeat``
        (0, 1, 2: how often the image was shown before) and ``shared``.

    Raises:
        DataError: a file is damaged, or a trial is not the one that the design planned.
    """
    planned = read_design(path_to_design, subject=subject)
    shown = read_responses(path_to_responses)
    expected = planned["id"].to_numpy()[: len(shown)]
    wrong = np.flatnonzero(expected != shown["id"].to_numpy()[: len(expected)])
    if len(shown) > len(planned) or len(wrong):
        first = int(wrong[0]) if len(wrong) else len(planned)
        raise DataError(
            f"{path_to_responses}: trial {first} shows an image that {path_to_design} does not "
            f"plan for {subject} there; the two belong to different subjects or releases."
        )
    return shown[["session", "id"]].assign(
        position=shown.groupby("session").cumcount(),
        repeat=shown.groupby("id").cumcount(),
        shared=planned["shared"].to_numpy()[: len(shown)],
    )
