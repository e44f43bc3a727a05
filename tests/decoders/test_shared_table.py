"""Rows are computed once into a file, and read from it while they are still the right ones."""

import numpy as np
import pytest
import torch
from table_jobs import VALUES, Source, compute_slowly, read

from neuraldiffuser import runtime
from neuraldiffuser.decoders.parallel import launch


def test_rows_are_those_computed(tmp_path):
    source = Source()
    rows = read(tmp_path / "table", source)
    assert rows.dtype == torch.float16
    np.testing.assert_array_equal(rows, VALUES)
    assert source.computed == [(0, 4), (4, 8), (8, 10)]


def test_rows_are_computed_once(tmp_path):
    read(tmp_path / "table", Source())
    again = Source()
    np.testing.assert_array_equal(read(tmp_path / "table", again), VALUES)
    assert again.computed == []


def test_rows_of_another_identity_or_shape_are_computed_anew(tmp_path):
    path = tmp_path / "table"
    for changed in ({"identity": "else"}, {"shape": (9, 2, 3)}, {"identity": "longer"}):
        read(path, Source())
        again = Source()
        rows = read(path, again, **changed)
        assert again.computed[0] == (0, 4)
        np.testing.assert_array_equal(rows, VALUES[: len(rows)])


@pytest.mark.parametrize("damage", ["killed", "truncated"])
def test_an_unfinished_table_is_computed_anew(tmp_path, damage):
    path = tmp_path / "table"
    if damage == "killed":
        with pytest.raises(RuntimeError):
            read(path, Source(limit=8))
    else:
        read(path, Source())
        path.write_bytes(path.read_bytes()[:-1])
    again = Source()
    np.testing.assert_array_equal(read(path, again), VALUES)
    assert len(again.computed) == 3


def test_rows_are_the_files_own_and_no_copies(tmp_path):
    path = tmp_path / "table"
    rows = read(path, Source())
    with path.open("r+b") as file:
        file.seek(-2, 2)
        file.write(np.float16(7).tobytes())
    assert rows[-1, -1, -1] == 7


def test_processes_compute_different_rows_and_wait_for_each_other(monkeypatch, tmp_path):
    granted = runtime.Execution(label="test", log=str(tmp_path / "log"), processes=2)
    monkeypatch.setattr(runtime, "_execution", granted)
    launch(compute_slowly, folder=tmp_path)
    computed = []
    for index in (0, 1):
        found = np.load(tmp_path / f"{index}.npz")
        np.testing.assert_array_equal(found["rows"], VALUES)
        computed.append(found["computed"].tolist())
    assert computed == [[[0, 4], [8, 10]], [[4, 8]]]
