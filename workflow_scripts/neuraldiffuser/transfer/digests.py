"""Verifies a file against its pinned digest, or else against the one that its store states."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import huggingface_hub

from neuraldiffuser import runtime
from neuraldiffuser.errors import AlteredObjectError, FetchError
from neuraldiffuser.transfer import stores
from neuraldiffuser.transfer.stores import RemoteObject

MEBIBYTE = 1 << 20
PINNED = (
    "as it is pinned; name the source of the pinned file, or, if this is the one you want, pin it."
)
STATED = "as its store states; run again."
# What common tools upload in, the default of Amazon's own first.
USUAL_PART_MEBIBYTES = (8, 5, 10, 15, 16, 20, 25, 32, 50, 64, 100, 128, 256, 512, 1024)


class Hasher(Protocol):
    """What hashlib's digests can do, as far as it is needed."""

    def update(self, content: memoryview, /) -> None:
        """Takes in what follows."""

    def hexdigest(self) -> str:
        """The digest of all of it."""


class MultipartMd5:
    """What S3 states as the ETag of an object that was uploaded in parts of equal size.

    The MD5 of the parts' MD5s, and their number (docs.aws.amazon.com, "Checking object integrity").
    """

    def __init__(self, part_bytes: int) -> None:
        self._part_bytes = part_bytes
        self._digests = [_md5()]
        self._missing = part_bytes

    def update(self, content: memoryview) -> None:
        """Takes in what follows."""
        while content:
            if not self._missing:
                self._digests.append(_md5())
                self._missing = self._part_bytes
            taken = content[: self._missing]
            self._digests[-1].update(taken)
            self._missing -= len(taken)
            content = content[len(taken) :]

    def hexdigest(self) -> str:
        """The ETag, without quotes."""
        joined = b"".join(digest.digest() for digest in self._digests)
        return f"{_md5(joined).hexdigest()}-{len(self._digests)}"


@dataclass(frozen=True)
class ExpectedDigest:
    """A digest, the hashers of which one must arrive at it, and who says so."""

    value: str
    hashers: Sequence[Hasher]
    authority: str = STATED


def verify(path: Path, remote: RemoteObject, *, pinned: str | None = None) -> None:
    """Reads a file once and compares its digest with the one that is expected.

    Args:
        path: the file.
        remote: the object that it is a copy of.
        pinned: its SHA-256; without one, what its store states counts, if it states any.

    Raises:
        AlteredObjectError: naming both.
        FetchError: the store of a model cannot be asked for it.
    """
    if pinned is None:
        expected = _stated_digest(remote)
    else:
        expected = ExpectedDigest(pinned, [hashlib.sha256()], PINNED)
    if expected is None:
        runtime.logger.info("%s: its server states no digest; its size is right.", remote.address)
        return
    for block in runtime.read_blocks(path, description=f"verifying {path.stem}"):
        for hasher in expected.hashers:
            hasher.update(block)
    found = [hasher.hexdigest() for hasher in expected.hashers]
    if expected.value not in found:
        raise AlteredObjectError(
            f"{remote.address} arrived with digest {' or '.join(found)}, not {expected.value} "
            f"{expected.authority}"
        )


def _stated_digest(remote: RemoteObject) -> ExpectedDigest | None:
    if remote.address.startswith("s3://") or _host(remote).endswith(".amazonaws.com"):
        return _stated_by_s3(remote)
    if "/resolve/" in remote.url:
        return _stated_by_hugging_face(remote)
    return None


def _host(remote: RemoteObject) -> str:
    return urlsplit(remote.url).hostname or ""


# --- S3 ------------------------------------------------------------------------------------------


def _stated_by_s3(remote: RemoteObject) -> ExpectedDigest | None:
    form = re.fullmatch(r"[0-9a-f]{32}(?:-(\d+))?", remote.etag)
    if form is None:
        return None
    if form[1] is None:
        return ExpectedDigest(remote.etag, [_md5()])
    hashers = [MultipartMd5(size) for size in _part_sizes(remote, parts=int(form[1]))]
    return ExpectedDigest(remote.etag, hashers) if hashers else None


def _part_sizes(remote: RemoteObject, *, parts: int) -> list[int]:
    """The size of the first part as S3 tells it, otherwise the sizes that are likely."""

    def fits(part_bytes: int) -> bool:
        return -(-remote.size // part_bytes) == parts

    try:
        told = stores.locate(f"{remote.url}?partNumber=1").size
    except FetchError:
        told = remote.size
    if fits(told):
        return [told]
    smallest = -(-remote.size // (parts * MEBIBYTE))
    likely = dict.fromkeys([*USUAL_PART_MEBIBYTES, smallest])
    return [size * MEBIBYTE for size in likely if fits(size * MEBIBYTE)]


def _md5(content: bytes = b"") -> "hashlib._Hash":
    return hashlib.md5(content, usedforsecurity=False)


# --- Hugging Face --------------------------------------------------------------------------------


def _stated_by_hugging_face(remote: RemoteObject) -> ExpectedDigest | None:
    """A large file's SHA-256, a small one's name in Git."""
    token = huggingface_hub.get_token() if remote.address.startswith("hf://") else None
    try:
        stated = huggingface_hub.get_hf_file_metadata(
            remote.url, token=token or False, retry_on_errors=True
        )
    except Exception as error:
        reason = " ".join(str(error).split())
        raise FetchError(
            f"{remote.address} could not be verified ({reason}); check the network and run again."
        ) from error
    if stated.commit_hash is None or stated.etag is None:
        return None
    git_header = b"blob %d\0" % remote.size
    hashers = {64: hashlib.sha256(), 40: hashlib.sha1(git_header, usedforsecurity=False)}
    hasher = hashers.get(len(stated.etag))
    return ExpectedDigest(stated.etag, [hasher]) if hasher else None
