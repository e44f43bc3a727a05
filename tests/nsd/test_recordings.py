"""Which sessions are read, in which order, and what is refused."""

import dataclasses

import h5py
import numpy as np
import pandas as pd
import pytest
from tiny_bucket import betas_paths, region_paths

from neuraldiffuser import runtime
from neuraldiffuser.errors import DataError
from neuraldiffuser.nsd import design, files, normalisation
from neuraldiffuser.nsd.recordings import read_recordings
from neuraldiffuser.nsd.selection import read_selection

SUBJECT = "subj01"


@pytest.fixture
def selection(tiny_bucket):
    regions = region_paths(tiny_bucket, SUBJECT)
    return read_selection(
        path_to_mask=regions["nsdgeneral"],
        path_to_areas=regions["areas"],
        path_to_ncsnr=regions["ncsnr"],
    )


@pytest.fixture
def trials(tiny_bucket):
    return design.join_trials(
        path_to_design=tiny_bucket / files.DESIGN,
        path_to_responses=tiny_bucket / files.responses(SUBJECT),
        subject=SUBJECT,
    )


@pytest.fixture
def read(selection, trials):
    def read_some(paths, *, sessions=(1, 2, 3), **changes):
        settings = {"selection": selection, "trials": trials, "sessions": sessions} | changes
        return read_recordings(paths, **settings)

    return read_some


@pytest.fixture
def paths(tiny_bucket):
    return betas_paths(tiny_bucket, SUBJECT)


def test_order_of_the_files_and_number_of_threads_do_not_matter(read, paths, monkeypatch):
    forward = read(paths)
    monkeypatch.setattr(runtime, "_execution", runtime.Execution(threads=3))
    backward = read(paths[::-1])
    pd.testing.assert_frame_equal(forward.trials, backward.trials)
    for first, second in zip(forward.sessions, backward.sessions, strict=True):
        np.testing.assert_array_equal(first, second)


def test_sessions_stay_in_the_16_bits_that_are_stored(read, paths):
    recordings = read(paths)
    assert {rows.dtype for rows in recordings.sessions} == {np.dtype(np.int16)}
    assert recordings.units == 300
    assert recordings.numbers.tolist() == [1, 2, 3]


def test_only_the_sessions_asked_for_are_read(read, paths):
    recordings = read(paths, sessions=(1, 2))
    assert recordings.trials["session"].unique().tolist() == [1, 2]
    assert recordings.missing == ()


def test_missing_sessions_are_left_out_and_told(read, paths):
    recordings = read([paths[0], paths[2]], sessions=(1, 3), missing=(2,))
    assert recordings.missing == (2,)
    assert recordings.numbers.tolist() == [1, 3]
    assert (recordings.trials["session"] != 2).all()


@pytest.mark.parametrize("given", [slice(1), slice(0)])
def test_a_session_that_was_not_given_is_refused(read, paths, given):
    lacking = len(paths[given]) + 1
    with pytest.raises(DataError, match=f"betas of session {lacking} were not given; fetch them"):
        read(paths[given])


def test_a_session_that_the_responses_do_not_list_is_named(read, paths, trials):
    with pytest.raises(DataError) as error:
        read(paths, trials=trials[trials["session"] < 3])
    assert str(error.value) == (
        f"{paths[2]} should hold session 3, of which the subject's responses.tsv knows no trial; "
        "lower the subject's number in nsd.sessions."
    )


def test_another_number_of_trials_than_the_responses_list_is_refused(read, paths, trials):
    with pytest.raises(DataError) as error:
        read(paths, trials=trials.iloc[1:])
    assert str(error.value) == (
        f"{paths[0]} holds 40 trials, but the subject's responses.tsv lists 39; fetch the two "
        "again."
    )


# --- MindEye2's file -----------------------------------------------------------------------------


@pytest.fixture
def renormalised(tmp_path):
    """Writes a file like MindEye2's; rows tell their trial, columns their voxel."""

    def write(*, trials=120, voxels=150, dtype=np.float32, key="betas"):
        rows = np.arange(trials)[:, None] + np.arange(voxels) / 1000
        path = tmp_path / "betas_all_subj01_fp32_renorm.hdf5"
        with h5py.File(path, "w") as file:
            file[key] = rows.astype(dtype)
        return path

    return write


def test_rows_of_mindeye2_are_trials_in_the_order_of_scanning(read, renormalised):
    recordings = read([renormalised()])
    found = recordings.block(slice(None))
    assert found.dtype == np.float32
    expected = np.arange(120)[:, None] + np.arange(150) / 1000
    np.testing.assert_array_equal(found, expected.astype(np.float32))
    assert recordings.trials["session"].tolist() == [1] * 40 + [2] * 40 + [3] * 40
    assert recordings.missing == ()


def test_a_constant_of_mindeye2_is_a_value_and_in_nsds_files_a_mark(read, renormalised):
    path = renormalised()
    with h5py.File(path, "r+") as file:
        file["betas"][:40, 7] = 0.25
    recordings = read([path])
    assert recordings.valid().all()
    statistics = normalisation.measure(recordings, normalisation="none")
    rows = normalisation.normalise(
        recordings.block(slice(None))[:40], statistics, session=1, split="training"
    )
    assert (rows[:, 7] == np.float32(0.25)).all()
    same = dataclasses.replace(recordings, renormalised=False)
    assert np.argwhere(~same.valid()).tolist() == [[0, 7]]


def test_fewer_sessions_are_the_first_rows_of_mindeye2(read, renormalised):
    recordings = read([renormalised()], sessions=(1, 2))
    np.testing.assert_array_equal(recordings.block(slice(1)).astype(int).ravel(), np.arange(80))


@pytest.mark.parametrize("change", [{"trials": 119}, {"voxels": 151}, {"dtype": np.int16}])
def test_other_tables_than_the_design_and_the_mask_ask_for_are_refused(read, renormalised, change):
    path = renormalised(**change)
    with h5py.File(path) as file:
        found = file["betas"].shape, file["betas"].dtype
    with pytest.raises(DataError) as error:
        read([path])
    assert str(error.value) == (
        f"{path} holds betas of shape {found[0]} and type {found[1]}, where the subject's trials "
        "and nsdgeneral voxels ask for (120, 150) and float32; it belongs to another subject or "
        "has to be fetched again."
    )


def test_mindeye2_files_that_are_damaged_or_not_finite_are_refused(read, renormalised):
    path = renormalised()
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(DataError, match="truncated or is no HDF5 file; delete it"):
        read([path])
    with pytest.raises(DataError, match="has no array betas; delete it"):
        read([renormalised(key="voxels")])
    path = renormalised()
    with h5py.File(path, "r+") as file:
        file["betas"][7, 9] = np.nan
    with pytest.raises(DataError, match="renorm.hdf5 holds 1 non-finite values"):
        read([path])


def test_sessions_beyond_the_responses_are_refused(read, renormalised):
    with pytest.raises(DataError, match="should hold session 4, of which"):
        read([renormalised()], sessions=(1, 2, 3, 4))
