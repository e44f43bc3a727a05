import dataclasses
import time

import h5py
import numpy as np
import pytest

from neuraldiffuser import storage
from neuraldiffuser.errors import DataError
from neuraldiffuser.features import store

IDS = np.array([2, 3, 5, 7, 11, 13, 17])


class Killed(BaseException):
    """Stands for a process that ends between two instructions."""


def make_targets(folder, **attributes):
    named = {"target": "x"} | attributes
    return {
        "a": store.Target(path=folder / "a.h5", shape=(2, 3), attributes=named),
        "b": store.Target(path=folder / "b.h5", shape=(4,), attributes=named),
    }


def compute(ids):
    grid = np.arange(6, dtype=np.float32).reshape(2, 3)
    return {
        "a": ids[:, None, None] + grid / 8,
        "b": np.repeat(ids[:, None], 4, axis=1).astype(np.float32),
    }


def write(targets, *, function=compute, ids=IDS, **changes):
    arguments = {"dtype": "float16", "batch_size": 3, "origin": {"code": "1"}} | changes
    store.write_resumably(targets, ids, lambda batches: map_each(function, batches), **arguments)


def map_each(function, batches):
    yield from map(function, batches)


@pytest.fixture(autouse=True)
def pieces_of_one_batch(monkeypatch):
    """A run can go on after every three rows."""
    monkeypatch.setattr(store, "PIECE", 3)


def stop_at(call, seen=None):
    """``compute`` that dies in the given call (0-based); notes the ids it was asked for."""
    calls = [] if seen is None else seen

    def function(ids):
        if len(calls) == call:
            raise Killed
        calls.append(ids.tolist())
        return compute(ids)

    return function


def test_rows_ids_and_attributes_are_written(tmp_path):
    write(make_targets(tmp_path))
    for name, expected in compute(IDS).items():
        path = tmp_path / f"{name}.h5"
        assert np.array_equal(storage.read_array(path, "embedding"), expected.astype(np.float16))
        assert storage.read_array(path, "embedding").dtype == np.float16
        assert np.array_equal(storage.read_array(path, "id"), IDS)
        assert storage.read_attributes(path) == {"target": "x"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.h5", "b.h5"]


@pytest.mark.parametrize("call", [0, 1, 2])
def test_a_killed_run_goes_on_where_it_stopped_and_ends_with_the_same_bytes(tmp_path, call):
    write(make_targets(tmp_path / "whole"))
    time.sleep(1.1)  # HDF5 stamps what it creates with seconds, unless it is told not to
    with pytest.raises(Killed):
        write(make_targets(tmp_path / "killed"), function=stop_at(call))
    assert not (tmp_path / "killed" / "a.h5").exists()
    seen = []
    write(make_targets(tmp_path / "killed"), function=stop_at(9, seen))
    assert seen == [[2, 3, 5], [7, 11, 13], [17]][call:]
    for name in ("a.h5", "b.h5"):
        whole, resumed = ((tmp_path / part / name).read_bytes() for part in ("whole", "killed"))
        assert whole == resumed


def test_death_between_two_files_of_a_piece_costs_that_piece(tmp_path, monkeypatch):
    original, calls = store.record_progress, []

    def dies(target, *arguments):
        calls.append(target.path.name)
        if len(calls) == 6:  # two files begun, a piece of both noted, one noted, one not
            raise Killed
        original(target, *arguments)

    monkeypatch.setattr(store, "record_progress", dies)
    with pytest.raises(Killed):
        write(make_targets(tmp_path))
    monkeypatch.undo()
    seen = []
    write(make_targets(tmp_path), function=stop_at(9, seen))
    assert seen == [[7, 11, 13], [17]]
    assert np.array_equal(storage.read_array(tmp_path / "b.h5", "embedding"), compute(IDS)["b"])


@pytest.mark.parametrize(
    "change",
    [
        {"origin": {"code": "2"}},
        {"batch_size": 2},
        {"dtype": "float32"},
        {"ids": IDS + 1},
    ],
)
def test_an_unfinished_file_of_another_run_is_begun_anew(tmp_path, change):
    with pytest.raises(Killed):
        write(make_targets(tmp_path), function=stop_at(2))
    seen = []
    write(make_targets(tmp_path), function=stop_at(9, seen), **change)
    assert sum(seen, []) == change.get("ids", IDS).tolist()


def test_other_attributes_begin_anew(tmp_path):
    with pytest.raises(Killed):
        write(make_targets(tmp_path), function=stop_at(2))
    seen = []
    write(make_targets(tmp_path, weights="other"), function=stop_at(9, seen))
    assert len(seen) == 3


def test_rows_lie_in_one_block(tmp_path):
    write(make_targets(tmp_path))
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["embedding"].chunks is None
        assert file["embedding"].id.get_offset() is not None


def test_wrong_shapes_and_values_beyond_the_dtype_are_refused(tmp_path):
    targets = make_targets(tmp_path)
    targets["b"] = dataclasses.replace(targets["b"], shape=(5,))
    with pytest.raises(DataError, match=r"b.h5: computed rows have shape \(4,\), but \(5,\)"):
        write(targets)
    huge = IDS + 100_000
    with pytest.raises(DataError, match=f"3 of 3 images, the first with 73k id {huge[0]},"):
        write(make_targets(tmp_path / "huge"), ids=huge)
    write(make_targets(tmp_path / "huge"), ids=huge, dtype="float32")
