"""An S3 server on this machine that counts what it serves and fails as a test asks it to.

    with faulty_s3.serve() as server:
        address = server.put("folder/object", content)
        server.fail("folder/object", faulty_s3.cut, times=1)

``server.endpoint`` goes into AWS_ENDPOINT_URL; the fixture ``s3`` of conftest.py does so.
"""

import functools
import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import boto3
from moto import mock_aws
from moto.server import create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wrappers import Request, Response

BUCKET = "natural-scenes-dataset"

Fault = Callable[[Response], Response]


# --- faults: each turns a good response into a bad one -------------------------------------------


def cut(response: Response) -> Response:
    """Breaks the connection off after half of the promised bytes."""
    promised, body = response.content_length, response.data
    response.data = body[: len(body) // 2]
    response.content_length = promised
    return response


def alter(response: Response) -> Response:
    """Flips every bit of the body's first byte."""
    body = response.data
    response.data = bytes([body[0] ^ 0xFF]) + body[1:]
    return response


def refuse(_: Response) -> Response:
    """Is too busy, as S3 says it."""
    return Response("<Error><Code>SlowDown</Code></Error>", status=503)


# --- the server ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Exchange:
    """One answered request."""

    method: str
    key: str
    headers: dict[str, str]
    status: int
    bytes: int


@dataclass
class _PlannedFault:
    key: str
    fault: Fault
    method: str
    turns: Iterator[bool]


class FaultyS3:
    """A WSGI application around moto's S3, with one bucket that anybody may read."""

    def __init__(self) -> None:
        self.endpoint = ""
        self.exchanges: list[Exchange] = []
        self._s3 = create_backend_app("s3")
        self._client = _client()
        self._client.create_bucket(Bucket=BUCKET)
        self._planned: list[_PlannedFault] = []
        self._lock = threading.Lock()
        self._moto = threading.Lock()  # moto serves one thread at a time

    def put(self, key: str, content: bytes, *, part_bytes: int | None = None) -> str:
        """Stores an object, in several parts if their size is given; returns its address."""
        where = {"Bucket": BUCKET, "Key": key}
        with self._moto:
            if part_bytes is None:
                self._client.put_object(**where, Body=content, ACL="public-read")
            else:
                self._put_parts(where, content, part_bytes)
        return f"s3://{BUCKET}/{key}"

    def _put_parts(self, where: dict[str, str], content: bytes, part_bytes: int) -> None:
        upload = self._client.create_multipart_upload(**where, ACL="public-read")
        where = where | {"UploadId": upload["UploadId"]}
        parts = []
        for number, start in enumerate(range(0, len(content), part_bytes), start=1):
            body = content[start : start + part_bytes]
            part = self._client.upload_part(**where, PartNumber=number, Body=body)
            parts.append({"PartNumber": number, "ETag": part["ETag"]})
        self._client.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})

    def put_folder(self, folder: Path, *, part_bytes: int | None = None) -> str:
        """Stores every file below a folder under its path there; returns the bucket's address."""
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                key = path.relative_to(folder).as_posix()
                self.put(key, path.read_bytes(), part_bytes=part_bytes)
        return f"s3://{BUCKET}"

    def fail(
        self,
        key: str,
        fault: Fault,
        *,
        times: int | None = None,
        after: int = 0,
        method: str = "GET",
    ) -> None:
        """Spoils answers about ``key``: ``times`` of them (None: all), ``after`` that many good."""
        faulty = itertools.repeat(True) if times is None else itertools.repeat(True, times)
        turns = itertools.chain(itertools.repeat(False, after), faulty)
        self._planned.append(_PlannedFault(key, fault, method, turns))

    def recover(self) -> None:
        """Answers well again."""
        self._planned.clear()

    def requests(self, key: str, *, method: str = "GET") -> list[Exchange]:
        """What was asked about ``key`` and answered, in order."""
        return [seen for seen in self.exchanges if (seen.key, seen.method) == (key, method)]

    def bytes_served(self, key: str) -> int:
        """Bytes of ``key`` that were sent, without headers."""
        return sum(exchange.bytes for exchange in self.requests(key))

    def __call__(self, environ, start_response):
        request = Request(environ)
        key = request.path.removeprefix(f"/{BUCKET}/")
        with self._moto:
            response = Response.from_app(self._s3, environ, buffered=True)
        response.automatically_set_content_length = False
        for fault in self._due(key, request.method):
            response = fault(response)
        sent = len(response.data) if request.method == "GET" else 0
        headers = dict(request.headers)
        with self._lock:
            seen = Exchange(request.method, key, headers, response.status_code, sent)
            self.exchanges.append(seen)
        return response(environ, start_response)

    def _due(self, key: str, method: str) -> list[Fault]:
        with self._lock:
            return [
                planned.fault
                for planned in self._planned
                if (planned.key, planned.method) == (key, method) and next(planned.turns, False)
            ]


@functools.cache
def _client():
    """Writes into moto's memory, past the server."""
    made_up = {"aws_access_key_id": "nobody", "aws_secret_access_key": "none"}
    return boto3.client("s3", region_name="us-east-1", **made_up)


class _SilentHandler(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_request(self, *_):
        """Tests print nothing."""


@contextmanager
def serve() -> Iterator[FaultyS3]:
    """Runs the server; its objects live as long as the context."""
    with mock_aws(), patch("moto.s3.models.S3_UPLOAD_PART_MIN_SIZE", 0):
        application = FaultyS3()
        with listen(application) as application.endpoint:
            yield application


@contextmanager
def listen(application: Callable) -> Iterator[str]:
    """Runs a WSGI application on a free port; yields its address."""
    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=_SilentHandler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
