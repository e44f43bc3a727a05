"""What a file holds, as text that can be compared: neither its date nor its place counts."""

import hashlib
import os
from functools import cache
from pathlib import Path

LARGEST_TO_DIGEST = 1 << 26  # bytes; a tenth of a second
BLOCKS = 32
BYTES_PER_BLOCK = 1 << 13


def digest(path: Path | str) -> str:
    """sha256 of a file's bytes."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(path: Path | str) -> str:
    """What tells a file from another version of it, at the price of a glance.

    sha256 of its size and of ``BLOCKS`` blocks spread evenly over it, its first and its last bytes
    among them; of every byte of a file that is no larger than those.
    """
    status = os.stat(path)
    return _fingerprint(os.path.abspath(path), status.st_size, status.st_mtime_ns)


@cache
def _fingerprint(path: str, size: int, _changed: int) -> str:
    hasher = hashlib.sha256(str(size).encode())
    last = max(size - BYTES_PER_BLOCK, 0)
    with open(path, "rb", buffering=0) as file:
        if size <= BLOCKS * BYTES_PER_BLOCK:
            hasher.update(file.read())
        else:
            for block in range(BLOCKS):
                file.seek(last * block // (BLOCKS - 1))
                hasher.update(file.read(BYTES_PER_BLOCK))
    return hasher.hexdigest()


def identify(path: Path | str) -> str:
    """The sha256 of a file; of one too large to be read for nothing, what a glance tells."""
    if os.stat(path).st_size <= LARGEST_TO_DIGEST:
        return digest(path)
    return f"fingerprint {fingerprint(path)}"
