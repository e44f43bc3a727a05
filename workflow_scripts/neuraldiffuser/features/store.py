"""Target files that are filled piece by piece: killed at any moment, they go on where they were.

A file under way is the finished file under another name, with its arrays allocated contiguously
when it was created, so that later writes touch nothing but rows. How many rows are done stands in
a small file beside it, which is replaced only after the rows have reached the disk. The file takes
its final name when its last row is written.
"""

import hashlib
import os
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from neuraldiffuser import runtime, storage
from neuraldiffuser.errors import DataError
from neuraldiffuser.identity import canonical_json


@dataclass(frozen=True)
class Target:
    """One target's file.

    Attributes:
        path: of the finished file.
        shape: of one row.
        attributes: what the file says of itself: its name, its settings, its model.
    """

    path: Path
    shape: tuple[int, ...]
    attributes: Mapping[str, Any]


PIECE = 256  # rows between two points from which a killed run can go on, at most


def write_resumably(
    targets: Mapping[str, Target],
    ids: np.ndarray,
    compute: Callable[[Iterable[np.ndarray]], Generator[Mapping[str, np.ndarray]]],
    *,
    dtype: str,
    batch_size: int,
    origin: Mapping[str, Any],
) -> None:
    """Computes targets for ``ids`` batch by batch and writes them, going on where a run stopped.

    Wherever a run stopped, the next one forms the same batches.

    Args:
        targets: by name; all are computed together.
        ids: (n,) ascending 73k ids.
        compute: batches of ids to {name: (m, *shape)} for each; it may take batches ahead, and a
            result may depend on the ids of its own batch alone.
        dtype: of the stored embeddings.
        batch_size: ids of a batch.
        origin: what else the rows depend on (code, inputs); another run's file of another origin
            is begun anew.

    Raises:
        DataError: a computed target is not finite in ``dtype``, or has another shape than
            announced.
    """
    identity = describe_run(targets, ids, dtype=dtype, batch_size=batch_size, origin=origin)
    done = min(open_unfinished(target, ids, dtype, identity) for target in targets.values())
    batches = [
        slice(start, min(start + batch_size, len(ids)))
        for start in range(done, len(ids), batch_size)
    ]
    piece = max(1, PIECE // batch_size) * batch_size
    bar = runtime.progress(
        total=len(ids), initial=done, description=f"computing {', '.join(targets)}", unit="image"
    )
    with ExitStack() as stack:
        files = {
            name: stack.enter_context(h5py.File(unfinished_path(target.path), "r+"))
            for name, target in targets.items()
        }
        computed = stack.enter_context(closing(compute(ids[rows] for rows in batches)))
        for rows, values in zip(batches, computed, strict=True):
            for name, target in targets.items():
                write_rows(files[name], values[name], rows, target)
            if rows.stop % piece == 0 or rows.stop == len(ids):
                for name, target in targets.items():
                    wait_for_disk(files[name])
                    record_progress(target, rows.stop, identity)
            bar.update(rows.stop - rows.start)
    bar.close()
    for target in targets.values():
        os.replace(unfinished_path(target.path), target.path)
        progress_path(target.path).unlink()


def describe_run(
    targets: Mapping[str, Target],
    ids: np.ndarray,
    *,
    dtype: str,
    batch_size: int,
    origin: Mapping[str, Any],
) -> str:
    """A digest of everything that an unfinished file has to share with the run that goes on."""
    described = {
        "targets": {
            name: {"shape": target.shape, "attributes": dict(target.attributes)}
            for name, target in targets.items()
        },
        "ids": hashlib.sha256(np.ascontiguousarray(ids, dtype=np.int64)).hexdigest(),
        "dtype": dtype,
        "batch_size": batch_size,
        "origin": dict(origin),
    }
    return hashlib.sha256(canonical_json(described).encode()).hexdigest()


def unfinished_path(path: Path) -> Path:
    """Where the file that will be ``path`` grows."""
    return path.with_name(f".{path.name}.unfinished")


def progress_path(path: Path) -> Path:
    """Where it stands how far the file that will be ``path`` has grown."""
    return path.with_name(f".{path.name}.progress.json")


def open_unfinished(target: Target, ids: np.ndarray, dtype: str, identity: str) -> int:
    """The number of rows already done in the unfinished file; creates it where there is none."""
    unfinished, progress = unfinished_path(target.path), progress_path(target.path)
    if unfinished.is_file() and progress.is_file():
        recorded = storage.read_json(progress)
        if recorded["identity"] == identity:
            return recorded["rows"]
    progress.unlink(missing_ok=True)
    unfinished.parent.mkdir(parents=True, exist_ok=True)
    allocate(unfinished, target, ids, dtype)
    record_progress(target, 0, identity)
    return 0


def allocate(path: Path, target: Target, ids: np.ndarray, dtype: str) -> None:
    """Creates a file with all ids and with room for every row, in one contiguous block.

    The disk grants all of it now, or refuses before anything is computed.
    """
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    creation.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    creation.set_obj_track_times(False)  # equal data are equal bytes, whenever they were made
    space = h5py.h5s.create_simple((len(ids), *target.shape))
    with storage.begin_arrays(path) as file:
        file.create_dataset("id", data=np.asarray(ids, dtype=np.int64))
        kind = h5py.h5t.py_create(np.dtype(dtype))
        h5py.h5d.create(file.id, b"embedding", kind, space, creation)
        file.attrs.update(target.attributes)
    with path.open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def write_rows(file: h5py.File, values: np.ndarray, rows: slice, target: Target) -> None:
    """Writes computed rows into the unfinished file."""
    if values.shape[1:] != target.shape:
        raise DataError(
            f"{target.path.name}: computed rows have shape {values.shape[1:]}, but "
            f"{target.shape} was expected; check the model's configuration."
        )
    embedding = file["embedding"]
    with np.errstate(over="ignore"):  # refused in the next line
        stored = values.astype(embedding.dtype, copy=False)
    if not np.isfinite(stored).all():
        finite = np.isfinite(stored).reshape(len(stored), -1).all(axis=1)
        ids = file["id"][rows][~finite]
        raise DataError(
            f"{target.path.name}: {len(ids)} of {len(stored)} images, the first with 73k id "
            f"{ids[0]}, have values that are not finite as {stored.dtype}; set targets.precision "
            "and targets.dtype to float32, or check these stimuli and the model."
        )
    embedding[rows] = stored


def wait_for_disk(file: h5py.File) -> None:
    """Returns when every row written so far is on the disk."""
    file.flush()
    os.fsync(file.id.get_vfd_handle())


def record_progress(target: Target, rows: int, identity: str) -> None:
    """Notes that the first ``rows`` rows are done."""
    storage.write_json(progress_path(target.path), {"rows": rows, "identity": identity})
