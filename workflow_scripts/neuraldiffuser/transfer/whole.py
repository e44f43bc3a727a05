"""Brings a whole object to a path: in blocks, resumed where it was killed, verified, or not at all.

The object grows in ``<path>.part``; ``<path>.part.journal`` tells which blocks of it are there.
"""

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from neuraldiffuser import exclusion, runtime
from neuraldiffuser.errors import AlteredObjectError, FetchError
from neuraldiffuser.transfer import digests, disk, stores
from neuraldiffuser.transfer.stores import RemoteObject

BLOCK_BYTES = 1 << 24
BLOCKS_AT_ONCE = 8
ATTEMPTS = 3


def fetch(
    address: str,
    path: Path | str,
    *,
    region: str | None = None,
    size: int | None = None,
    sha256: str | None = None,
) -> None:
    """Copies the object at ``address`` to ``path``.

    Args:
        address: see ``stores.locate``.
        path: where it goes; an older file there is replaced once the object is whole.
        region: of an s3:// bucket.
        size: bytes that it must have.
        sha256: digest that it must have; without one, what its store states is verified.

    Raises:
        MissingObjectError: there is no such object.
        AlteredObjectError: it is not what it must be, or arrived otherwise than its store states
            it, time after time.
        FetchError: it could not be read or written; run again, and it goes on where it ended.
    """
    told = ""
    for attempts_left in reversed(range(ATTEMPTS)):
        try:
            remote = stores.locate(address, region=region)
            _require_size(remote, size)
            _try_to_fetch(remote, Path(path), sha256)
            return
        except AlteredObjectError as error:
            # What arrives twice alike, though not as pinned, is what the source has.
            if not attempts_left or (sha256 and str(error) == told):
                raise
            told = str(error)
            runtime.logger.warning("%s It is fetched anew.", error)


def _require_size(remote: RemoteObject, pinned: int | None) -> None:
    if pinned not in (None, remote.size):
        raise AlteredObjectError(
            f"{remote.address} has {remote.size} bytes, not {pinned} {digests.PINNED}"
        )


def _try_to_fetch(remote: RemoteObject, path: Path, sha256: str | None) -> None:
    part = path.with_name(f"{path.name}.part")
    path_to_journal = path.with_name(f"{path.name}.part.journal")
    with disk.writing(path), _locked(part) as file:
        if os.fstat(file).st_size != remote.size:
            path_to_journal.unlink(missing_ok=True)
        with _Journal(path_to_journal, remote) as journal:
            disk.require_space(path, journal.missing_bytes, source=remote.address)
            os.truncate(file, remote.size)
            _fill(file, remote, journal)
        try:
            digests.verify(part, remote, pinned=sha256)
        except AlteredObjectError:
            part.unlink()
            path_to_journal.unlink()
            raise
        os.fsync(file)
        os.replace(part, path)
        path_to_journal.unlink()


@contextmanager
def _locked(part: Path) -> Iterator[int]:
    """Opens a file for reading and writing, for this process alone."""
    file = os.open(part, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        exclusion.lock(file)
        # Whoever held the lock until now may have finished, and the file may be its result.
        if not (part.exists() and os.path.samestat(os.fstat(file), part.stat())):
            raise BlockingIOError
        yield file
    except BlockingIOError as error:
        raise FetchError(
            f"{part.with_suffix('')} is being fetched by another process; wait until it has ended."
        ) from error
    finally:
        os.close(file)


class _Journal:
    """Which blocks of a version of an object are on the disk.

    A line that names the version, then one character per block: "." while it is missing, "x" once
    it is there. A single byte is written or not, so the journal is true whenever the process dies.
    """

    def __init__(self, path: Path, remote: RemoteObject) -> None:
        version = {"size": remote.size, "etag": remote.etag, "block": BLOCK_BYTES}
        self._heading = f"{json.dumps(version)}\n".encode()
        self._size = remote.size
        blocks = -(-remote.size // BLOCK_BYTES)
        content = path.read_bytes() if path.exists() else b""
        if not content.startswith(self._heading) or len(content) != len(self._heading) + blocks:
            content = self._heading + b"." * blocks
            path.write_bytes(content)
        marks = content[len(self._heading) :]
        self.missing = [self._range(block) for block in range(blocks) if marks[block] != ord("x")]
        self.missing_bytes = sum(stop - start for start, stop in self.missing)
        self._file = path.open("r+b", buffering=0)

    def _range(self, block: int) -> tuple[int, int]:
        return block * BLOCK_BYTES, min((block + 1) * BLOCK_BYTES, self._size)

    def mark(self, start: int) -> None:
        """Notes that the block from byte ``start`` on is on the disk."""
        os.pwrite(self._file.fileno(), b"x", len(self._heading) + start // BLOCK_BYTES)

    def __enter__(self) -> "_Journal":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _fill(file: int, remote: RemoteObject, journal: _Journal) -> None:
    """Writes the missing blocks, several at once."""

    def fetch_block(block: tuple[int, int]) -> int:
        start, stop = block
        position = start
        for piece in stores.read(remote, start, stop):
            _write(file, memoryview(piece), position)
            position += len(piece)
        os.fdatasync(file)
        journal.mark(start)
        return stop - start

    bar = runtime.progress(
        total=remote.size,
        initial=remote.size - journal.missing_bytes,
        description=f"fetching {Path(remote.key).name}",
        unit="B",
        scale=True,
    )
    with bar, ThreadPoolExecutor(BLOCKS_AT_ONCE) as pool:
        for length in pool.map(fetch_block, journal.missing):
            bar.update(length)


def _write(file: int, content: memoryview, start: int) -> None:
    while content:
        written = os.pwrite(file, content, start)
        content, start = content[written:], start + written
