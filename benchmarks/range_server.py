"""A web server for one folder that answers byte ranges, counts them, and can be as slow as a line.

It stands in for the NSD bucket.
"""

import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

BYTES_AT_ONCE = 1 << 18
FORK = multiprocessing.get_context("fork")


@dataclass
class Line:
    """What lies between the server and who asks: all answers share it."""

    name: str
    latency: float  # seconds until an answer begins
    bytes_per_second: float
    _free_at: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def carry(self, count: int) -> None:
        """Waits as long as the line needs for so many bytes, after those that came before."""
        with self._lock:
            self._free_at = max(self._free_at, time.monotonic()) + count / self.bytes_per_second
            arrival = self._free_at
        time.sleep(max(0.0, arrival - time.monotonic()))


class Traffic:
    """What has been asked for and sent so far, counted across processes."""

    def __init__(self) -> None:
        self._requests, self._bytes = FORK.Value("q"), FORK.Value("q")

    @property
    def requests(self) -> int:
        """Requests answered."""
        return self._requests.value

    @property
    def bytes(self) -> int:
        """Bytes sent, without headers."""
        return self._bytes.value

    def count(self, sent: int) -> None:
        """Adds one answer."""
        with self._requests, self._bytes:
            self._requests.value += 1
            self._bytes.value += sent


class Handler(BaseHTTPRequestHandler):
    """Answers HEAD and GET, whole or one range, over connections that stay open."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16

    def __init__(self, *arguments: object, folder: Path, line: Line, traffic: Traffic) -> None:
        self.folder, self.line, self.traffic = folder, line, traffic
        super().__init__(*arguments)

    def do_HEAD(self) -> None:
        """Sends the size and the ETag."""
        self._answer(send=self._send_nothing)

    def do_GET(self) -> None:
        """Sends the content, or the range asked for."""
        self._answer(send=self._send_content)

    def _answer(self, *, send: Callable[[Path, int, int], int]) -> None:
        path = self.folder / self.path.lstrip("/")
        time.sleep(self.line.latency)
        if not path.is_file():
            self.send_error(404)
            return
        size = path.stat().st_size
        first, _, last = self.headers.get("Range", "bytes=0-")[len("bytes=") :].partition("-")
        start, stop = int(first), min(int(last) + 1, size) if last else size
        self.send_response(206 if "Range" in self.headers else 200)
        self.send_header("Content-Length", str(stop - start))
        self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{size}")
        self.send_header("ETag", f'"{path.stat().st_mtime_ns:x}"')
        self.end_headers()
        self.wfile.flush()
        self.traffic.count(send(path, start, stop))

    def _send_content(self, path: Path, start: int, stop: int) -> int:
        with path.open("rb") as file:
            for position in range(start, stop, BYTES_AT_ONCE):
                count = min(BYTES_AT_ONCE, stop - position)
                self.line.carry(count)
                self.connection.sendfile(file, position, count)
        return stop - start

    def _send_nothing(self, *_: object) -> int:
        return 0

    def log_message(self, *_: object) -> None:
        """Stays silent: the traffic is counted instead."""


class Server(ThreadingHTTPServer):
    """One thread per connection, and room for as many as may ask to connect at once."""

    daemon_threads = True
    request_queue_size = 256


@contextmanager
def serve(folder: Path, line: Line) -> Iterator[tuple[str, Traffic]]:
    """Serves a folder on this machine from a process of its own: (address, its traffic)."""
    traffic = Traffic()
    handler = partial(Handler, folder=folder, line=line, traffic=traffic)
    with Server(("127.0.0.1", 0), handler) as server:
        process = FORK.Process(target=server.serve_forever, daemon=True)
        process.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", traffic
        finally:
            process.terminate()
            process.join()
