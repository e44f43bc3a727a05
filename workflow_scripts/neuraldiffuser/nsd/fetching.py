"""Brings one object from where it lies to the local mirror: whole and verified, or not at all."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import fsspec
from fsspec.callbacks import Callback

from neuraldiffuser import runtime, storage
from neuraldiffuser.errors import FetchError, TermsError
from neuraldiffuser.nsd import files
from neuraldiffuser.nsd.locations import is_remote

AGREEMENT = "https://naturalscenesdataset.org"
BYTES_PER_READ = 1 << 22


class _Progress(Callback):
    """Reports a transfer's bytes, rate and time left through the job's progress lines."""

    def __init__(self, description: str) -> None:
        super().__init__()
        self.bar = runtime.progress(description=description, unit="B", scale=True)

    def set_size(self, size: int | None) -> None:
        self.bar.total = size

    def relative_update(self, inc: int = 1) -> None:
        self.bar.update(inc)

    def absolute_update(self, value: int) -> None:
        self.bar.update(value - self.bar.n)


def require_terms(
    *,
    terms_accepted: bool,
    bucket: str,
    data: str,
    sessions: Mapping[str, int],
    subjects: Sequence[str],
    file_format: str,
) -> None:
    """Refuses to fetch from a network before the NSD data access agreement is accepted.

    Raises:
        TermsError: what to accept, where the data goes, how large it is, and what needs none.
    """
    if terms_accepted or not is_remote(bucket):
        return
    betas = files.download_gigabytes(sessions, subjects=subjects, file_format=file_format)
    raise TermsError(
        f"The NSD data access agreement has not been accepted: agree to it at {AGREEMENT} and set "
        f"nsd.terms_accepted to true, after which about {betas:.0f} GB of {file_format} betas and "
        f"{files.STIMULI_GIGABYTES:.0f} GB of stimuli are fetched into {data}/ (paths.data); the "
        "miniature (`make demo`) needs none of it."
    )


def fetch(url: str, path: Path | str) -> None:
    """Copies the object at ``url`` to ``path`` under a temporary name, verified, then renamed.

    Args:
        url: an fsspec address (``s3://`` read anonymously, ``http(s)://``, a plain path, ...).
        path: where it goes.

    Raises:
        FetchError: the object does not exist, arrives short, or has another digest than its
            store states.
    """
    options = {"anon": True} if url.startswith("s3://") else {}
    filesystem, source = fsspec.core.url_to_fs(url, **options)
    information = _describe(filesystem, source, url)
    with storage.replace_atomically(path) as temporary:
        _transfer(filesystem, source, temporary, url=url)
        _require_size(temporary, information.get("size"), url=url)
        _require_digest(temporary, single_part_digest(information, url), url=url)


def _describe(filesystem: Any, source: str, url: str) -> Mapping[str, Any]:
    try:
        return filesystem.info(source)
    except FileNotFoundError as error:
        if _hides_another_failure(error):
            raise FetchError(_failure(url, error.__cause__)) from error
        raise FetchError(
            f"{url} does not exist; if it is a session, lower the subject's number in nsd.sessions "
            "(some sessions are held out of the public release), otherwise check nsd.bucket."
        ) from error
    except Exception as error:  # each store behind fsspec has errors of its own
        raise FetchError(_failure(url, error)) from error


def _hides_another_failure(error: FileNotFoundError) -> bool:
    """fsspec reports an unreachable or refusing web server as a missing file."""
    cause = error.__cause__
    unreachable = isinstance(cause, OSError) and not isinstance(cause, FileNotFoundError)
    return unreachable or getattr(cause, "status", 404) != 404


def _transfer(filesystem: Any, source: str, path: Path, *, url: str) -> None:
    try:
        filesystem.get_file(source, str(path), callback=_Progress(f"fetching {Path(url).name}"))
    except Exception as error:  # each store behind fsspec has errors of its own
        raise FetchError(_failure(url, error)) from error


def _failure(url: str, error: BaseException) -> str:
    reason = " ".join(str(error).split()) or type(error).__name__
    return (
        f"{url} could not be fetched ({reason}); check the network and nsd.bucket, and run again."
    )


def _require_size(path: Path, expected: int | None, *, url: str) -> None:
    found = path.stat().st_size
    if expected is not None and found != expected:
        raise FetchError(f"{url} arrived with {found} of {expected} bytes; run again.")


def single_part_digest(information: Mapping[str, Any], url: str) -> str | None:
    """The md5 that S3 states as an object's ETag, unless it was uploaded in several parts."""
    tag = str(information.get("ETag", "")).strip('"')
    is_s3 = url.startswith("s3://") or ".amazonaws.com/" in url
    return tag if is_s3 and re.fullmatch(r"[0-9a-f]{32}", tag) else None


def _require_digest(path: Path, expected: str | None, *, url: str) -> None:
    if expected is None:
        return
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as content:
        while block := content.read(BYTES_PER_READ):
            digest.update(block)
    if digest.hexdigest() != expected:
        raise FetchError(f"{url} arrived with md5 {digest.hexdigest()}, not {expected}; run again.")
