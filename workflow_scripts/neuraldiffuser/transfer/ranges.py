"""Many byte ranges of one file or one remote object, read at the same time.

A range carries no checksum of its own. What is verified: every answer has the length asked for,
and a remote answer the object's ETag and size as they were when it was located; TLS or TCP guard
the way. What is not: that the stored bytes are the ones that were once uploaded.
"""

import io
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import obstore
from numpy.lib.stride_tricks import sliding_window_view
from obstore.store import MemoryStore

from neuraldiffuser import runtime
from neuraldiffuser.errors import DataError
from neuraldiffuser.transfer import stores
from neuraldiffuser.transfer.stores import RemoteObject

LOCAL_READERS = 4  # threads; for file systems that do not read ahead when asked to
REMOTE_READERS = 64  # requests in flight: on a line of 30 ms 1,600 ranges a second; 32 make 900
BYTES_READ_AT_ONCE = 1 << 20  # of an object; its ranges, read one by one, might come to more
BYTES_PER_BLOCK = 1 << 16  # of RangeFile: HDF5's first small reads lie within one


class RangeReader(Protocol):
    """Reads byte ranges of one file."""

    name: str  # for messages
    remedy: str  # what to do when the file is damaged, for messages
    size: int  # bytes

    def read_into(self, start: int, view: memoryview) -> None:
        """Fills a buffer from byte ``start`` on, in the calling thread."""

    def read(self, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """All ranges, laid end to end: ``starts`` and ``lengths`` (ranges,) to uint8 (bytes,)."""


class LocalRanges:
    """Ranges of a file on disk, announced to the kernel before they are read.

    Raises:
        DataError: the file is missing, cannot be read, or ends before a range does.
    """

    remedy = "delete it and run again"

    def __init__(self, path: Path | str) -> None:
        self.name = str(path)
        try:
            self._file = open(path, "rb", buffering=0)  # noqa: SIM115 (closed by __exit__)
        except FileNotFoundError as error:
            raise DataError(f"{path} is missing; fetch it again.") from error
        self.size = os.fstat(self._file.fileno()).st_size
        self._pool = ThreadPoolExecutor(LOCAL_READERS)

    def __enter__(self) -> "LocalRanges":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._file.close()

    def read(self, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """All ranges, laid end to end: ``starts`` and ``lengths`` (ranges,) to uint8 (bytes,)."""
        content, views = _allocate(lengths)
        step = -(-len(views) // LOCAL_READERS) or 1
        shares = [slice(first, first + step) for first in range(0, len(views), step)]
        jobs = self._pool.map(lambda share: self._read_share(starts[share], views[share]), shares)
        list(jobs)  # waits, and raises what a thread raised
        return content

    def _read_share(self, starts: np.ndarray, views: list[memoryview]) -> None:
        ranges = list(zip(starts.tolist(), views, strict=True))
        if hasattr(os, "posix_fadvise"):  # not on macOS
            for start, view in ranges:
                os.posix_fadvise(self._file.fileno(), start, len(view), os.POSIX_FADV_WILLNEED)
        for start, view in ranges:
            self.read_into(start, view)

    def read_into(self, start: int, view: memoryview) -> None:
        """Fills a buffer from byte ``start`` on."""
        try:
            count = os.preadv(self._file.fileno(), [view], start)
        except OSError as error:
            raise DataError(f"{self.name} could not be read ({error}); check its disk.") from error
        if count != len(view):
            raise DataError(f"{self.name} is truncated; {self.remedy}.")


class RemoteRanges:
    """Ranges of a remote object; every answer must come from the version that was located.

    Raises:
        MissingObjectError: the object is gone.
        AlteredObjectError: it was replaced.
        FetchError: it could not be read, after the store's own retries.
    """

    remedy = "check it at its source"

    def __init__(self, remote: RemoteObject) -> None:
        self.name = remote.address
        self.size = remote.size
        self._remote = _hold(remote) if remote.size <= BYTES_READ_AT_ONCE else remote
        self._pool = ThreadPoolExecutor(REMOTE_READERS)
        description = f"reading ranges of {Path(remote.key).name}"
        self._progress = runtime.progress(total=0, description=description, unit="B", scale=True)

    def __enter__(self) -> "RemoteRanges":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._progress.close()

    def read(self, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """All ranges, laid end to end: ``starts`` and ``lengths`` (ranges,) to uint8 (bytes,)."""
        content, views = _allocate(lengths)
        jobs = self._pool.map(self.read_into, starts.tolist(), views)
        self._progress.total += len(content)
        for view, _ in zip(views, jobs, strict=True):
            self._progress.update(len(view))
        return content

    def read_into(self, start: int, view: memoryview) -> None:
        """Fills a buffer from byte ``start`` on."""
        view[:] = b"".join(stores.read(self._remote, start, start + len(view)))


def _hold(remote: RemoteObject) -> RemoteObject:
    """The same object in memory, read once."""
    store = MemoryStore()
    content = b"".join(stores.read(remote, 0, remote.size))
    stored = obstore.put(store, remote.key, content)
    return replace(remote, store=store, etag=stores.unquote_etag(stored["e_tag"]))


def _allocate(lengths: np.ndarray) -> tuple[np.ndarray, list[memoryview]]:
    """Room for all ranges end to end, uint8 (bytes,), and a view of each range's part of it."""
    content = np.empty(int(lengths.sum()), np.uint8)
    stops = np.cumsum(lengths).tolist()
    whole = memoryview(content)
    return content, [whole[a:b] for a, b in zip([0, *stops], stops, strict=False)]


@dataclass(frozen=True)
class Runs:
    """Neighbouring blocks of equal length, joined with the gaps between them."""

    starts: np.ndarray  # int64 (runs,) ascending
    lengths: np.ndarray  # int64 (runs,)
    positions: np.ndarray  # int64 (blocks,): where each block begins in all runs laid end to end


def coalesce(starts: np.ndarray, *, length: int, gap: int) -> Runs:
    """Joins blocks that lie at most ``gap`` bytes apart: fewer, longer reads.

    Args:
        starts: int64 (blocks,) first bytes, in any order; blocks may overlap.
        length: bytes of every block.
        gap: bytes that are read for nothing rather than with a request of their own.
    """
    ordered = np.sort(starts)
    last = np.flatnonzero(np.diff(ordered) > length + gap)  # blocks that end a run
    first = ordered[np.append(0, last + 1)] if len(ordered) else ordered
    stop = ordered[np.append(last, -1)] + length if len(ordered) else ordered
    lengths = stop - first
    run = np.searchsorted(first, starts, side="right") - 1
    before = np.cumsum(lengths) - lengths
    return Runs(first, lengths, before[run] + starts - first[run])


def read_blocks(reader: RangeReader, starts: np.ndarray, *, length: int, gap: int) -> np.ndarray:
    """Blocks of equal length, in the order of ``starts``: uint8 (blocks, length)."""
    if not len(starts):
        return np.empty((0, length), np.uint8)
    runs = coalesce(starts, length=length, gap=gap)
    content = reader.read(runs.starts, runs.lengths)
    return sliding_window_view(content, length)[runs.positions]


class RangeFile(io.RawIOBase):
    """A RangeReader as a file for libraries that seek and read, such as h5py.

    It reads in the calling thread: h5py holds its lock meanwhile, and a thread of another pool
    that happened to collect h5py's garbage would wait for that lock for ever.

    ``reads`` records every read as (start, content).
    """

    def __init__(self, reader: RangeReader) -> None:
        self.reads: list[tuple[int, bytes]] = []
        self._reader = reader
        self._position = 0
        self._blocks: dict[int, bytearray] = {}

    def readable(self) -> bool:
        """It can be read."""
        return True

    def seekable(self) -> bool:
        """It can be read from anywhere."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Moves to ``offset`` from the start, the position or the end."""
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._reader.size}
        self._position = origin[whence] + offset
        return self._position

    def readinto(self, buffer: memoryview) -> int:
        """Fills the buffer from the position on, as far as the file goes."""
        start = self._position
        stop = min(start + len(buffer), self._reader.size)
        blocks = range(start // BYTES_PER_BLOCK, -(-stop // BYTES_PER_BLOCK))
        content = b"".join(map(self._block, blocks))
        content = content[start % BYTES_PER_BLOCK :][: max(stop - start, 0)]
        buffer[: len(content)] = content
        self.reads.append((start, content))
        self._position += len(content)
        return len(content)

    def _block(self, number: int) -> bytearray:
        if number not in self._blocks:
            start = number * BYTES_PER_BLOCK
            content = bytearray(min(BYTES_PER_BLOCK, self._reader.size - start))
            self._reader.read_into(start, memoryview(content))
            self._blocks[number] = content
        return self._blocks[number]
