"""Artefacts are written whole or not at all, and read by id or refused."""

import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import torch

from neuraldiffuser import storage
from neuraldiffuser.errors import DataError

WORKFLOW_SCRIPTS = Path(__file__).parents[1] / "workflow_scripts"


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "value.json"
    storage.write_json(path, {"a": 1})
    with pytest.raises(RuntimeError), storage.replace_atomically(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError("killed")
    assert storage.read_json(path) == {"a": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["value.json"]


def test_what_a_killed_job_left_is_replaced(tmp_path):
    path = tmp_path / "table.csv"
    with pytest.raises(KeyboardInterrupt), storage.replace_atomically(path) as left:
        left.write_text("half")
        os.link(left, tmp_path / "kept")
        raise KeyboardInterrupt
    os.rename(tmp_path / "kept", left)
    storage.write_bytes(path, b"whole")
    assert [one.name for one in tmp_path.iterdir()] == ["table.csv"]
    assert path.read_bytes() == b"whole"


def test_rows_come_by_id_in_the_order_asked(tmp_path):
    path, ids = tmp_path / "rows.h5", np.array([7, 3, 90, 12, 44])
    storage.write_arrays(path, {"id": ids, "embedding": ids[:, None] * np.ones((1, 2))})
    for wanted in ([90, 3, 3], [12], [44, 12, 90, 3, 7], []):
        rows = storage.read_rows(path, np.array(wanted, dtype=np.int64))
        np.testing.assert_array_equal(rows, np.array(wanted)[:, None] * np.ones((1, 2)))


def test_a_missing_id_is_named(tmp_path):
    path = tmp_path / "rows.h5"
    storage.write_arrays(path, {"id": np.arange(4), "embedding": np.zeros((4, 2))})
    with pytest.raises(DataError) as error:
        storage.read_rows(path, np.array([1, 4, 9]))
    assert str(error.value) == (
        f"{path} lacks 2 of the ids asked for, 4 among them; delete it and run the workflow again."
    )


def test_non_finite_values_are_refused_by_name(tmp_path):
    path = tmp_path / "rows.h5"
    with pytest.raises(DataError) as error:
        storage.write_arrays(path, {"group/betas": np.array([1.0, np.nan, np.inf])})
    assert str(error.value) == (
        f"group/betas for {path} holds 2 non-finite values out of 3; "
        "remove or regenerate the file it came from."
    )
    assert not path.exists()


def test_a_truncated_file_is_refused_in_one_sentence(tmp_path):
    path = tmp_path / "rows.h5"
    storage.write_arrays(path, {"embedding": np.random.default_rng(0).normal(size=(100, 100))})
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError) as error:
        storage.read_array(path, "embedding")
    assert str(error.value) == (
        f"{path} is truncated or is no HDF5 file; delete it and run the workflow again."
    )


@pytest.mark.parametrize(
    ("name", "kept", "read", "sentence"),
    [
        ("value.json", 20, storage.read_json, "is no valid JSON ("),
        ("table.csv", 0, storage.read_table, "is empty; delete it and run the workflow again."),
        (
            "weights.safetensors",
            20,
            storage.read_tensors,
            "is truncated or is no safetensors file; delete it and run again.",
        ),
    ],
)
def test_what_is_left_of_a_file_is_refused_in_one_sentence(tmp_path, name, kept, read, sentence):
    path = tmp_path / name
    storage.write_json(tmp_path / "value.json", {"a": list(range(50))})
    storage.write_table(tmp_path / "table.csv", pd.DataFrame({"id": range(50)}))
    storage.write_tensors(tmp_path / "weights.safetensors", {"weight": torch.arange(50.0)})
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DataError) as error:
        read(path)
    assert str(error.value).startswith(f"{path} {sentence}")


def test_tables_json_and_tensors_come_back_as_written(tmp_path):
    table = pd.DataFrame({"id": [1, 2], "value": [0.1, 1 / 3]})
    storage.write_table(tmp_path / "t.csv", table)
    pd.testing.assert_frame_equal(storage.read_table(tmp_path / "t.csv"), table)
    tensors = {"weight": torch.arange(6.0).reshape(2, 3).T}
    storage.write_tensors(tmp_path / "w.safetensors", tensors, {"step": 3, "layers": [2, 4]})
    read, metadata = storage.read_tensors(tmp_path / "w.safetensors")
    torch.testing.assert_close(read["weight"], tensors["weight"], rtol=0, atol=0)
    assert metadata == {"step": 3, "layers": [2, 4]}
    assert storage.read_metadata(tmp_path / "w.safetensors") == metadata


def test_the_same_tensors_are_the_same_bytes(tmp_path):
    """Safetensors alone would order the metadata anew each time."""
    metadata = {name: f'{name} … \n"' for name in "abcdefgh"}
    for number in range(5):
        tensors = {"weight": torch.arange(6.0), "bias": torch.ones(2)}
        storage.write_tensors(tmp_path / f"{number}.safetensors", tensors, metadata)
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1
    read, told = storage.read_tensors(tmp_path / "0.safetensors")
    assert told == metadata
    assert {name: tensor.tolist() for name, tensor in read.items()} == {
        "weight": [0, 1, 2, 3, 4, 5],
        "bias": [1, 1],
    }


def test_json_refuses_nan(tmp_path):
    with pytest.raises(ValueError, match="Out of range float"):
        storage.write_json(tmp_path / "v.json", {"a": float("nan")})
    assert not list(tmp_path.iterdir())


WANTED = {
    "neighbours": np.arange(5, 40),
    "few": np.array([1, 48]),
    "shuffled": np.random.default_rng(2).permutation(50),
    "repeated": np.array([49, 0, 0, 31, 49, 30]),
    "none": np.empty(0, np.int64),
}


@pytest.mark.parametrize("rows_at_once", [1, 7, 100])
@pytest.mark.parametrize("rows", WANTED.values(), ids=WANTED)
def test_picked_rows_are_those_of_the_array_whatever_the_blocks(
    monkeypatch, tmp_path, rows, rows_at_once
):
    values = np.random.default_rng(1).normal(size=(50, 3))
    monkeypatch.setattr(storage, "BYTES_AT_ONCE", rows_at_once * values[0].nbytes)
    storage.write_arrays(tmp_path / "rows.h5", {"embedding": values})
    with h5py.File(tmp_path / "rows.h5") as file:
        np.testing.assert_array_equal(storage.pick_rows(file["embedding"], rows), values[rows])


def most_bytes(function):
    """The most bytes that Python and numpy held beside what was there, while ``function`` ran."""
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("arrange", [np.sort, np.asarray], ids=["ascending", "shuffled"])
def test_rows_are_read_in_little_more_memory_than_theirs(tmp_path, arrange):
    """63,000 of 73,000 rows, as in pretraining, but a tenth of them and 4 kB each."""
    path, rng = tmp_path / "rows.h5", np.random.default_rng(0)
    ids, values = np.arange(7300), rng.integers(1000, size=(7300, 2048), dtype=np.int16)
    storage.write_arrays(path, {"id": ids, "embedding": values})
    wanted = arrange(rng.permutation(ids)[:6300])
    expected = values[wanted]
    np.testing.assert_array_equal(storage.read_rows(path, wanted), expected)
    held = most_bytes(lambda: storage.read_rows(path, wanted))
    assert expected.nbytes <= held < 1.2 * expected.nbytes


def test_values_are_looked_at_in_little_memory():
    values = np.zeros((5000, 1000), np.float16)
    values[[0, 4999], [0, 999]] = np.nan, np.inf

    def look():
        with pytest.raises(DataError, match="holds 2 non-finite values out of 5000000"):
            storage.require_finite(values, "values")

    assert most_bytes(look) < 0.3 * values.nbytes


def test_a_mapped_array_equals_the_one_that_is_read_however_it_is_stored(tmp_path):
    path, values = tmp_path / "rows.h5", np.arange(12, dtype=np.float32).reshape(4, 3)
    with h5py.File(path, "w") as file:
        file["group/whole"] = values
        file.create_dataset("chunked", data=values, chunks=(2, 3), compression="gzip")
        file["empty"] = values[:0]
    for name, expected in (("group/whole", values), ("chunked", values), ("empty", values[:0])):
        found = storage.map_array(path, name)
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == np.float32
    assert isinstance(storage.map_array(path, "group/whole"), np.memmap)


def test_changing_a_mapped_array_leaves_the_file_alone(tmp_path):
    path = tmp_path / "rows.h5"
    storage.write_arrays(path, {"values": np.ones(5)})
    storage.map_array(path, "values")[:] = 0
    assert storage.read_array(path, "values").tolist() == [1] * 5


def test_a_mapped_array_that_the_file_lacks_is_named(tmp_path):
    path = tmp_path / "rows.h5"
    storage.write_arrays(path, {"values": np.ones(5)})
    with pytest.raises(DataError) as error:
        storage.map_array(path, "betas")
    assert str(error.value) == (f"{path} has no array betas; delete it and run the workflow again.")


FILLS = """
import resource, sys
import numpy as np
from neuraldiffuser import storage
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    with storage.create_arrays(sys.argv[1]) as file:
        for number in range(200):
            file[f"group{number % 7}/values{number}"] = np.ones(5000)
except OSError as error:
    print(error.strerror)
"""


def test_a_disk_that_takes_no_more_of_an_array_is_told_once_and_nothing_stays(tmp_path):
    """HDF5 by itself complains about each of its parts, and may crash."""
    told = subprocess.run(
        [sys.executable, "-c", FILLS, tmp_path / "values.h5"],
        env=os.environ | {"PYTHONPATH": str(WORKFLOW_SCRIPTS)},
        capture_output=True,
        text=True,
    )
    assert (told.returncode, told.stdout, told.stderr) == (0, "File too large\n", "")
    assert not list(tmp_path.iterdir())
