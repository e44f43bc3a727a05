"""Trials are joined by session, run and trial, never by the order of a file's lines."""

import numpy as np
import pandas as pd
import pytest
import scipy.io

from neuraldiffuser.errors import DataError
from neuraldiffuser.nsd import design

ORDER = [3, 1, 2, 3, 1, 4, 2, 3, 1, 4, 4, 2]  # 1-based picture of each trial; 1 and 2 are shared
PICTURES = [[11, 23, 5, 70], [11, 23, 48, 6]]  # 1-based 73k ids of two subjects
SHARED = [11, 23]


@pytest.fixture
def planned(tmp_path):
    path = tmp_path / "nsd_expdesign.mat"
    content = {"masterordering": [ORDER], "subjectim": PICTURES, "sharedix": [SHARED]}
    scipy.io.savemat(path, {name: np.array(value, float) for name, value in content.items()})
    return path


def responses(ids):
    """Two sessions of two runs of three trials."""
    trials = np.arange(12)
    return pd.DataFrame(
        {
            "SESSION": trials // 6 + 1,
            "RUN": trials // 3 % 2 + 1,
            "TRIAL": trials % 3 + 1,
            "73KID": ids,
            "RT": np.nan,
        }
    )


def shown_to(subject):
    return [PICTURES[subject][number - 1] for number in ORDER]


def write(path, table):
    table.to_csv(path, sep="\t", index=False)
    return path


def join(planned, path, subject="subj02"):
    return design.join_trials(path_to_design=planned, path_to_responses=path, subject=subject)


def test_every_trial_has_its_picture_and_repeat(tmp_path, planned):
    table = join(planned, write(tmp_path / "responses.tsv", responses(shown_to(1))))
    assert table["id"].tolist() == [number - 1 for number in shown_to(1)]
    assert table["session"].tolist() == [1] * 6 + [2] * 6
    assert table["repeat"].tolist() == [0, 0, 0, 1, 1, 0, 1, 2, 2, 1, 2, 2]
    assert table["shared"].tolist() == [number <= 2 for number in ORDER]


def test_shuffled_lines_give_the_same_trials(tmp_path, planned):
    ordered = write(tmp_path / "ordered.tsv", responses(shown_to(1)))
    shuffled = responses(shown_to(1)).sample(frac=1, random_state=3)
    path = write(tmp_path / "shuffled.tsv", shuffled)
    pd.testing.assert_frame_equal(join(planned, path), join(planned, ordered))


def test_fewer_sessions_than_planned_are_taken(tmp_path, planned):
    path = write(tmp_path / "responses.tsv", responses(shown_to(0)).head(6))
    assert len(join(planned, path, "subj01")) == 6


def test_another_subjects_responses_are_refused(tmp_path, planned):
    path = write(tmp_path / "responses.tsv", responses(shown_to(0)))
    with pytest.raises(DataError) as error:
        join(planned, path)
    assert str(error.value) == (
        f"{path}: trial 0 shows an image that {planned} does not plan for subj02 there; "
        "the two belong to different subjects or releases."
    )


def test_more_trials_than_planned_are_refused(tmp_path, planned):
    table = responses(shown_to(1))
    extra = pd.concat([table, table.tail(1).assign(SESSION=3)])
    path = write(tmp_path / "responses.tsv", extra)
    with pytest.raises(DataError) as error:
        join(planned, path)
    assert str(error.value) == (
        f"{path} lists 13 trials, but {planned} plans 12 for subj02; the two belong to different "
        "releases, or one has to be fetched again."
    )


def test_a_trial_listed_twice_is_refused(tmp_path, planned):
    table = responses(shown_to(1))
    path = write(tmp_path / "responses.tsv", pd.concat([table, table.head(1)]))
    with pytest.raises(DataError, match="lists a trial twice"):
        join(planned, path)


def test_unknown_subject_is_refused(planned):
    with pytest.raises(DataError, match="knows 2 subjects, not subj03"):
        design.read_design(planned, subject="subj03")


@pytest.mark.parametrize("content", [b"", b"no MATLAB file at all, only words"])
def test_damaged_design_is_refused(tmp_path, content):
    path = tmp_path / "nsd_expdesign.mat"
    path.write_bytes(content)
    with pytest.raises(DataError, match="is no NSD design"):
        design.read_design(path, subject="subj01")


def test_responses_without_a_column_are_refused(tmp_path):
    path = write(tmp_path / "responses.tsv", responses(shown_to(1)).drop(columns="73KID"))
    with pytest.raises(DataError, match="lacks columns of NSD's responses"):
        design.read_responses(path)


def test_missing_files_are_named(tmp_path, planned):
    with pytest.raises(DataError, match="responses.tsv is missing; fetch it again"):
        join(planned, tmp_path / "responses.tsv")
    with pytest.raises(DataError, match="x.mat is missing; fetch it again"):
        design.read_design(tmp_path / "x.mat", subject="subj01")
