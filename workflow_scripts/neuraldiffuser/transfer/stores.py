"""Where an object lies: its store, its size and its version, found from its address."""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import huggingface_hub
import obstore
from obstore.exceptions import BaseError, GenericError
from obstore.store import HTTPStore, LocalStore, ObjectStore, S3Store

from neuraldiffuser.errors import AlteredObjectError, FetchError, MissingObjectError

BYTES_PER_PIECE = 1 << 20
DEFAULT_REGION = "us-east-1"
DATASET = "hf://datasets/"

# A host that is busy or silent is asked again for two minutes; one that cannot even be connected to
# when an object is located, as after a slip in its name, is named after seconds. A block may take
# as long as it likes while bytes arrive.
PATIENCE = timedelta(minutes=2)
SHORT_PATIENCE = timedelta(seconds=6)
RETRIES = {
    "max_retries": 1000,  # more than fit into the time, which is what limits them
    "backoff": {
        "init_backoff": timedelta(milliseconds=250),
        "max_backoff": timedelta(seconds=8),
        "base": 3,
    },
}
UNREACHABLE = "ConnectError"  # in what is said of a name or port that nobody answers to
TIMEOUTS = {"connect_timeout": "5s", "read_timeout": "30s", "timeout": "1d"}

# What the long report of a failure holds that a person can use, the most telling first.
REASONS = {
    r"status code: (\d+ [\w -]+)": "{}",
    r'(?:message|error): "([^"]+)"': "{}",
    r"(TimedOut)": "it does not answer",
    r"(IncompleteBody)": "the connection breaks off",
    r"(RangeNotSupported)": "its server serves no ranges",
    r" - ([^\n]+)": "{}",
    r"^.* error: ([^\n]+)": "{}",
}


@dataclass(frozen=True)
class RemoteObject:
    """One version of an object.

    Attributes:
        address: as the user wrote it.
        store: what reads it.
        key: its name in the store.
        size: in bytes.
        etag: the store's mark of this version, without quotes; where it states none, the time of
            the last modification.
        url: its http(s) address; empty for a path on disk.
    """

    address: str
    store: ObjectStore
    key: str
    size: int
    etag: str
    url: str


def locate(address: str, *, region: str | None = None) -> RemoteObject:
    """Finds an object and asks its store for size and version.

    Args:
        address: ``s3://bucket/key`` (read without credentials, from AWS_ENDPOINT_URL if that is
            set), ``http(s)://...``, ``hf://organisation/repository@revision/path`` (``hf://datasets/
            ...`` for a dataset; from HF_ENDPOINT if that is set) or a path on disk.
        region: of an s3:// bucket.

    Raises:
        MissingObjectError: the store answers that there is no such object.
        FetchError: the store cannot be asked.
    """
    scheme = address.partition("://")[0] if "://" in address else ""
    if scheme not in STORES:
        raise FetchError(
            f"{address} is of no kind that can be fetched; give an s3://, https:// or hf:// "
            "address or a path."
        )
    find = partial(STORES[scheme], address, region or DEFAULT_REGION)
    with one_sentence(address):
        store, key, url = find(PATIENCE)
        impatient_store, *_ = find(SHORT_PATIENCE)
        try:
            description = _describe(impatient_store, key)
        except GenericError as error:
            if UNREACHABLE in str(error):
                raise
            description = _describe(store, key)
    return RemoteObject(address, store, key, description["size"], _version(description), url)


def _describe(store: ObjectStore, key: str) -> "obstore.ObjectMeta":
    try:
        return obstore.head(store, key)
    except FileNotFoundError:
        return obstore.get(store, key).meta  # whose failure tells whether there is a bucket


def read(remote: RemoteObject, start: int, stop: int) -> Iterator[bytes | obstore.Bytes]:
    """The bytes of an object from ``start`` up to ``stop``, piece by piece.

    Raises:
        AlteredObjectError: it is no longer the version that was located.
        FetchError: it cannot be read.
    """
    is_whole = (start, stop) == (0, remote.size)  # which servers without ranges can serve, too
    options = {} if is_whole else {"range": (start, stop)}
    with one_sentence(remote.address):
        answer = obstore.get(remote.store, remote.key, options=options)
        is_same = (answer.meta["size"], _version(answer.meta)) == (remote.size, remote.etag)
        for piece in _pieces(remote.store, answer) if is_same else ():
            start += len(piece)
            yield piece
    if start != stop:
        raise AlteredObjectError(f"{remote.address} changed while it was read; run again.")


def _pieces(store: ObjectStore, answer: "obstore.GetResult") -> Iterable[bytes | obstore.Bytes]:
    if isinstance(store, LocalStore):  # which streams in pieces of 8 KiB, whatever it is asked for
        return [answer.bytes()]
    return answer.stream(min_chunk_size=BYTES_PER_PIECE)


@contextmanager
def one_sentence(address: str) -> Iterator[None]:
    """Turns what a store raises about ``address`` into MissingObjectError or FetchError."""
    try:
        yield
    except FileNotFoundError as error:
        bucket = ", nor does its bucket" if "NoSuchBucket" in str(error) else ""
        raise MissingObjectError(f"{address} does not exist{bucket}; check the address.") from error
    except (BaseError, ValueError) as error:
        reason = _reason(error)
        advice = "check the address and the network, and run again"
        if address.startswith("hf://") and reason.startswith(("401", "403")):
            advice = "accept its terms on its page, set HF_TOKEN to a token of yours and run again"
        raise FetchError(f"{address} could not be fetched ({reason}); {advice}.") from error


def _reason(error: Exception) -> str:
    for pattern, reason in REASONS.items():
        if found := re.findall(pattern, str(error)):
            return reason.format(found[-1].strip())
    return str(error).partition("\n")[0]


def _version(description: Mapping[str, Any]) -> str:
    etag = description["e_tag"]
    return unquote_etag(etag) if etag else description["last_modified"].isoformat()


def unquote_etag(etag: str) -> str:
    """An ETag as servers state it, without its quotes and its mark of weakness."""
    return etag.removeprefix("W/").strip('"')


# --- kinds of address ----------------------------------------------------------------------------

Place = tuple[ObjectStore, str, str]  # store, key, url


def _on_s3(address: str, region: str, patience: timedelta) -> Place:
    bucket, _, key = address.removeprefix("s3://").partition("/")
    endpoint = os.environ.get("AWS_ENDPOINT_URL") or f"https://s3.{region}.amazonaws.com"
    endpoint = endpoint.rstrip("/")
    store = S3Store(
        bucket,
        endpoint=endpoint,
        region=region,
        skip_signature=True,
        virtual_hosted_style_request=False,
        client_options=_client(endpoint),
        retry_config=_retries(patience),
    )
    return store, key, f"{endpoint}/{bucket}/{quote(key)}"


def _on_the_web(
    address: str, _: str, patience: timedelta, *, headers: Mapping[str, str] = MappingProxyType({})
) -> Place:
    parts = urlsplit(address)
    host = urlunsplit(parts._replace(path="", fragment=""))
    client = _client(address) | {"default_headers": dict(headers)}
    store = HTTPStore(host, client_options=client, retry_config=_retries(patience))
    return store, unquote(parts.path).lstrip("/"), address


def _on_hugging_face(address: str, region: str, patience: timedelta) -> Place:
    is_dataset = address.startswith(DATASET)
    organisation, repository, path = (
        address.removeprefix(DATASET).removeprefix("hf://").split("/", 2)
    )
    name, _, revision = repository.partition("@")
    url = huggingface_hub.hf_hub_url(
        f"{organisation}/{name}",
        path,
        revision=revision or None,
        repo_type="dataset" if is_dataset else None,
    )
    return _on_the_web(url, region, patience, headers=_authorisation())


def _authorisation() -> dict[str, str]:
    """What shows the hub who asks, by HF_TOKEN or ``hf auth login``, if anything does.

    Redirected to another host, the client leaves it out.
    """
    token = huggingface_hub.get_token()
    return {"authorization": f"Bearer {token}"} if token else {}


def _on_disk(address: str, *_: object) -> Place:
    path = Path(address.removeprefix("file://")).resolve()
    return LocalStore(), str(path.relative_to("/")), ""


def _retries(patience: timedelta) -> dict[str, object]:
    return {**RETRIES, "retry_timeout": patience}


def _client(url: str) -> dict[str, object]:
    return {**TIMEOUTS, "allow_http": url.startswith("http://")}


STORES: dict[str, Callable[[str, str, timedelta], Place]] = {
    "s3": _on_s3,
    "https": _on_the_web,
    "http": _on_the_web,
    "hf": _on_hugging_face,
    "file": _on_disk,
    "": _on_disk,
}
