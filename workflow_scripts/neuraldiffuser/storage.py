"""Reading and writing artefacts: atomically, joined by id, refusing what is missing or broken."""

import io
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd

from neuraldiffuser.errors import DataError

BYTES_AT_ONCE = 1 << 20  # of rows that are read, or looked at, in one go


@contextmanager
def replace_atomically(path: Path | str) -> Iterator[Path]:
    """Yields a temporary path beside ``path``; renames it on success, removes it on failure.

    The temporary name is always the same, so what a killed job left is replaced by the next one.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.partial{path.suffix}")
    temporary.unlink(missing_ok=True)
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def require_finite(array: np.ndarray, what: str) -> None:
    """Raises DataError naming ``what`` if ``array`` holds a NaN or an infinity."""
    rows = np.atleast_1d(array)
    step = rows_at_once(rows)
    parts = (rows[start : start + step] for start in range(0, len(rows), step))
    broken = sum(int((~np.isfinite(part)).sum()) for part in parts)
    if broken:
        raise DataError(
            f"{what} holds {broken} non-finite values out of {array.size}; "
            "remove or regenerate the file it came from."
        )


@contextmanager
def open_arrays(path: Path | str) -> Iterator[h5py.File]:
    """Opens an HDF5 file for reading.

    Raises:
        DataError: the file is missing, or is no complete HDF5 file.
    """
    if not Path(path).is_file():
        raise DataError(f"{path} is missing; run the rule that makes it.")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise DataError(
            f"{path} is truncated or is no HDF5 file; delete it and run the workflow again."
        ) from error
    with file:
        yield file


class _Disk(io.FileIO):
    """A file that takes whatever is written to it and keeps the first error of the disk.

    HDF5 cannot give up a file on a disk that is full: every attempt to close it fails like the one
    before, and at last the process crashes. So it is told that all went well.
    """

    error: OSError | None = None

    def write(self, data: memoryview) -> int:
        """Writes all of it, unless the disk has failed before."""
        left = memoryview(data).cast("B")
        size = len(left)
        try:
            while len(left) and not self.error:
                left = left[super().write(left) :]
        except OSError as error:
            self.error = error
        return size


@contextmanager
def begin_arrays(path: Path) -> Iterator[h5py.File]:
    """A new HDF5 file, to be filled.

    Raises:
        OSError: the disk does not take it.
    """
    with _Disk(path, "w+") as disk:
        try:
            with h5py.File(disk, "w") as file:
                yield file
        finally:
            if disk.error:
                raise disk.error


@contextmanager
def create_arrays(path: Path | str) -> Iterator[h5py.File]:
    """The same, which has its name only when it is whole."""
    with replace_atomically(path) as temporary, begin_arrays(temporary) as file:
        yield file


def write_arrays(
    path: Path | str,
    arrays: Mapping[str, np.ndarray],
    attributes: Mapping[str, Any] | None = None,
) -> None:
    """Writes named arrays ("group/name") and root attributes to an HDF5 file, atomically.

    Raises:
        DataError: a floating-point array holds non-finite values.
    """
    with create_arrays(path) as file:
        for name, array in arrays.items():
            array = np.asarray(array)
            if array.dtype.kind == "f":
                require_finite(array, f"{name} for {path}")
            file.create_dataset(name, data=array)
        file.attrs.update(attributes or {})


def read_array(path: Path | str, name: str) -> np.ndarray:
    """Reads one array of an HDF5 file; raises DataError where the file lacks it."""
    with open_arrays(path) as file:
        if name not in file:
            raise DataError(f"{path} has no array {name}; delete it and run the workflow again.")
        return file[name][()]


def map_array(path: Path | str, name: str) -> np.ndarray:
    """One array of an HDF5 file, of which only the rows that are used are ever loaded.

    The array may be changed; the file is not. Raises DataError where the file lacks it.
    """
    with open_arrays(path) as file:
        if name not in file:
            raise DataError(f"{path} has no array {name}; delete it and run the workflow again.")
        dataset = file[name]
        offset = dataset.id.get_offset()
        if offset is None:  # no rows, or not in one piece
            return dataset[()]
        return np.memmap(path, dataset.dtype, "c", offset, dataset.shape)


def read_attributes(path: Path | str) -> dict[str, Any]:
    """Reads the root attributes of an HDF5 file."""
    with open_arrays(path) as file:
        return dict(file.attrs)


def read_rows(
    path: Path | str, ids: np.ndarray, name: str = "embedding", index: str = "id"
) -> np.ndarray:
    """Reads the rows of array ``name`` whose ``index`` equals ``ids``, in the order of ``ids``.

    Args:
        path: an HDF5 file.
        ids: (n,) integers, 0-based 73k ids; may repeat.
        name: array of shape (m, ...).
        index: array of shape (m,) with the id of each row.

    Returns:
        (n, ...) rows in the dtype of the file.

    Raises:
        DataError: an id is not in the file.
    """
    ids = np.asarray(ids)
    known = read_array(path, index)
    order = np.argsort(known, kind="stable")
    position = np.searchsorted(known, ids, sorter=order).clip(max=max(len(known) - 1, 0))
    missing = ids[known[order[position]] != ids] if len(known) else ids
    if len(missing):
        raise DataError(
            f"{path} lacks {len(set(missing.tolist()))} of the ids asked for, "
            f"{int(missing[0])} among them; delete it and run the workflow again."
        )
    with open_arrays(path) as file:
        return pick_rows(file[name], order[position])


def pick_rows(dataset: h5py.Dataset, rows: np.ndarray) -> np.ndarray:
    """Rows of an array in a file, in any order, in little more memory than theirs.

    Neighbours are read as one slice: HDF5 walks a list of rows one by one, which is far slower.
    """
    picked = np.empty((len(rows), *dataset.shape[1:]), dataset.dtype)
    order = np.argsort(rows, kind="stable")
    ends = 1 + np.flatnonzero(np.diff(rows[order] // rows_at_once(dataset)))
    for block in np.split(order, ends) if len(rows) else ():
        first, last = int(rows[block[0]]), int(rows[block[-1]])
        picked[block] = dataset[first : last + 1][rows[block] - first]
    return picked


def rows_at_once(array: np.ndarray | h5py.Dataset) -> int:
    """How many rows of an array have ``BYTES_AT_ONCE``; at least one."""
    return max(BYTES_AT_ONCE * len(array) // max(array.nbytes, 1), 1)


def write_bytes(path: Path | str, content: bytes) -> None:
    """Writes bytes atomically."""
    with replace_atomically(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path | str, value: Any) -> None:
    """Writes sorted, indented JSON atomically; refuses NaN and infinities."""
    text = json.dumps(value, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False)
    write_bytes(path, f"{text}\n".encode())


def read_json(path: Path | str) -> Any:
    """Reads JSON; raises DataError if the file is missing or no JSON."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing; run the rule that makes it.") from error
    except json.JSONDecodeError as error:
        raise DataError(f"{path} is no valid JSON ({error}); delete it and run again.") from error


def write_table(path: Path | str, table: pd.DataFrame) -> None:
    """Writes a table as CSV with every digit, atomically."""
    write_bytes(path, table.to_csv(index=False).encode())


def read_table(path: Path | str) -> pd.DataFrame:
    """Reads a CSV table; raises DataError if it is missing or empty."""
    try:
        return pd.read_csv(path)
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing; run the rule that makes it.") from error
    except pd.errors.EmptyDataError as error:
        raise DataError(f"{path} is empty; delete it and run the workflow again.") from error


def write_tensors(
    path: Path | str, tensors: Mapping[str, Any], metadata: Mapping[str, Any] | None = None
) -> None:
    """Writes torch tensors as safetensors, atomically; metadata values are stored as JSON."""
    from safetensors.torch import save_file

    described = {key: json.dumps(value, sort_keys=True) for key, value in (metadata or {}).items()}
    contiguous = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    with replace_atomically(path) as temporary:
        save_file(contiguous, temporary, metadata=described)
        if described:
            _sort_metadata(temporary)


def _sort_metadata(path: Path) -> None:
    """Gives the same tensors the same bytes: safetensors writes metadata in any order."""
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        header = {"__metadata__": dict(sorted(header.pop("__metadata__", {}).items()))} | header
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        file.seek(8)
        file.write(text.ljust(length))


def read_tensors(path: Path | str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Reads safetensors: (tensors by name on the CPU, metadata decoded from JSON)."""
    with _open_tensors(path) as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return tensors, _decode_metadata(file)


def read_metadata(path: Path | str) -> dict[str, Any]:
    """Reads the metadata of safetensors alone, decoded from JSON."""
    with _open_tensors(path) as file:
        return _decode_metadata(file)


@contextmanager
def _open_tensors(path: Path | str) -> Iterator[Any]:
    """Opens safetensors; raises DataError if the file is missing or damaged."""
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise DataError(f"{path} is missing; run the rule that makes it.")
    try:
        with safe_open(str(path), framework="pt") as file:
            yield file
    except SafetensorError as error:
        raise DataError(
            f"{path} is truncated or is no safetensors file; delete it and run again."
        ) from error


def _decode_metadata(file: Any) -> dict[str, Any]:
    return {key: json.loads(value) for key, value in (file.metadata() or {}).items()}
