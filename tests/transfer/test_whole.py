"""Whole objects arrive, or are named: from a server that fails, onto a disk that fails, killed."""

import errno
import fcntl
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import faulty_s3
import numpy as np
import pytest

from neuraldiffuser import runtime
from neuraldiffuser.errors import AlteredObjectError, FetchError, MissingObjectError
from neuraldiffuser.transfer import whole

BLOCK = 1 << 16
BLOCKS = 20
CONTENT = np.random.default_rng(1).bytes(BLOCKS * BLOCK - 1000)
OTHER = CONTENT[::-1]
KEY = "folder/object.bin"


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(whole, "BLOCK_BYTES", BLOCK)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "deep" / "copy" / "object.bin"


def left_beside(path):
    return sorted(found.name for found in path.parent.iterdir())


RESUMABLE = ["object.bin.part", "object.bin.part.journal"]


# --- what arrives --------------------------------------------------------------------------------


@pytest.mark.parametrize("part_bytes", [None, 300_000], ids=["one part", "several parts"])
def test_an_object_arrives_whole_and_alone(s3, path, part_bytes):
    whole.fetch(s3.put(KEY, CONTENT, part_bytes=part_bytes), path)
    assert path.read_bytes() == CONTENT
    assert left_beside(path) == ["object.bin"]
    assert len(s3.requests(KEY)) == BLOCKS
    assert s3.bytes_served(KEY) == len(CONTENT)


@pytest.mark.parametrize("length", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1])
def test_every_length_arrives(s3, path, length):
    whole.fetch(s3.put(KEY, CONTENT[:length]), path)
    assert path.read_bytes() == CONTENT[:length]


def test_an_object_arrives_from_a_folder_and_from_the_web(s3, path, tmp_path):
    s3.put(KEY, CONTENT)
    (tmp_path / "source").write_bytes(CONTENT)
    for source in (tmp_path / "source", f"{s3.endpoint}/{faulty_s3.BUCKET}/{KEY}"):
        whole.fetch(str(source), path)
        assert path.read_bytes() == CONTENT
        path.unlink()


def test_a_server_without_ranges_serves_what_fits_in_one_block(path):
    def application(_, start_response):
        start_response("200 OK", [("Content-Length", "1000")])
        return [CONTENT[:1000]]

    with faulty_s3.listen(application) as endpoint:
        whole.fetch(f"{endpoint}/object", path)
    assert path.read_bytes() == CONTENT[:1000]


def test_permissions_follow_the_umask(s3, path):
    before = os.umask(0o027)
    try:
        whole.fetch(s3.put(KEY, CONTENT), path)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o640


def test_several_blocks_are_asked_for_at_once(s3, path):
    together = threading.Barrier(whole.BLOCKS_AT_ONCE)

    def wait_for_the_others(response):
        together.wait(timeout=30)
        return response

    address = s3.put(KEY, CONTENT)
    s3.fail(KEY, wait_for_the_others, times=whole.BLOCKS_AT_ONCE)
    whole.fetch(address, path)
    assert path.read_bytes() == CONTENT


def test_progress_tells_bytes_rate_and_time_left(s3, path, caplog, monkeypatch):
    monkeypatch.setattr(runtime, "SECONDS_BETWEEN_PROGRESS_LINES", 0)
    address = s3.put(KEY, CONTENT)
    with caplog.at_level(logging.INFO, logger="neuraldiffuser"):
        whole.fetch(address, path)
    lines = "\n".join(caplog.messages)
    assert "fetching object.bin: 50% (655k of 1.31M), " in lines
    assert "B/s, 00:00 left" in lines
    assert "verifying object.bin: 0% (0.00 of 1.31M)" in lines


# --- a server that fails -------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [faulty_s3.cut, faulty_s3.refuse])
def test_a_passing_fault_is_mended(s3, path, fault):
    address = s3.put(KEY, CONTENT)
    s3.fail(KEY, fault, times=3, after=2)
    whole.fetch(address, path)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (faulty_s3.cut, "the connection breaks off"),
        (faulty_s3.refuse, "503 Service Unavailable"),
    ],
)
def test_a_lasting_fault_is_named_and_what_arrived_is_kept(s3, path, fault, reason):
    address = s3.put(KEY, CONTENT)
    s3.fail(KEY, fault, after=5)
    with pytest.raises(FetchError) as error:
        whole.fetch(address, path)
    assert str(error.value) == (
        f"{address} could not be fetched ({reason}); check the address and the network, and run "
        "again."
    )
    assert left_beside(path) == RESUMABLE


@pytest.mark.parametrize("part_bytes", [None, 300_000], ids=["one part", "several parts"])
def test_wrong_bytes_are_fetched_again(s3, path, part_bytes, caplog):
    address = s3.put(KEY, CONTENT, part_bytes=part_bytes)
    s3.fail(KEY, faulty_s3.alter, times=1, after=3)
    whole.fetch(address, path)
    assert path.read_bytes() == CONTENT
    assert s3.bytes_served(KEY) == 2 * len(CONTENT)
    assert "as its store states; run again. It is fetched anew." in caplog.text


@pytest.mark.parametrize("part_bytes", [None, 300_000], ids=["one part", "several parts"])
def test_bytes_that_stay_wrong_are_named_and_an_older_copy_is_left_alone(s3, path, part_bytes):
    path.parent.mkdir(parents=True)
    path.write_bytes(b"older")
    address = s3.put(KEY, CONTENT, part_bytes=part_bytes)
    s3.fail(KEY, faulty_s3.alter)
    with pytest.raises(
        AlteredObjectError, match=f"^{address} arrived with digest .*, not "
    ) as error:
        whole.fetch(address, path)
    assert "\n" not in str(error.value)
    assert s3.bytes_served(KEY) == whole.ATTEMPTS * len(CONTENT)
    assert path.read_bytes() == b"older"
    assert left_beside(path) == ["object.bin"]


@pytest.mark.usefixtures("s3")
def test_a_missing_object_leaves_nothing(path):
    with pytest.raises(MissingObjectError, match="^s3://.*/nothing does not exist; "):
        whole.fetch(f"s3://{faulty_s3.BUCKET}/nothing", path)
    assert not path.parent.exists()


def test_an_object_that_is_replaced_while_it_is_fetched_is_fetched_anew(s3, path):
    def replace(response):
        s3.put(KEY, OTHER)
        return response

    address = s3.put(KEY, CONTENT)
    s3.fail(KEY, replace, times=1, after=5)
    whole.fetch(address, path)
    assert path.read_bytes() == OTHER
    assert left_beside(path) == ["object.bin"]


def test_an_object_that_never_stays_the_same_is_named(s3, path):
    def replace(response):
        s3.put(KEY, np.random.default_rng().bytes(len(CONTENT)))
        return response

    address = s3.put(KEY, CONTENT)
    s3.fail(KEY, replace)
    with pytest.raises(AlteredObjectError, match=f"^{address} changed while it was read; "):
        whole.fetch(address, path)
    assert left_beside(path) == RESUMABLE


# --- killed and resumed --------------------------------------------------------------------------

IN_ANOTHER_PROCESS = """
import sys
from neuraldiffuser.transfer import whole
whole.BLOCK_BYTES = int(sys.argv[3])
whole.fetch(sys.argv[1], sys.argv[2])
"""


def start_fetching(address, path, *, before=""):
    return subprocess.Popen(
        [sys.executable, "-c", before + IN_ANOTHER_PROCESS, address, str(path), str(BLOCK)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stderr=subprocess.PIPE,
        text=True,
    )


def blocks_on_disk(path):
    journal = path.with_name(f"{path.name}.part.journal")
    return journal.read_text().count("x", journal.read_text().find("\n")) if journal.exists() else 0


def wait_until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def kill_after(blocks, s3, path, address):
    """Fetches in a process that is killed once so many blocks are there and others under way."""
    released = threading.Event()

    def hold(response):
        released.wait(timeout=60)
        return faulty_s3.refuse(response)

    s3.fail(KEY, hold, times=whole.BLOCKS_AT_ONCE, after=blocks)
    process = start_fetching(address, path)
    wait_until(lambda: blocks_on_disk(path) == blocks)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    process.stderr.close()
    released.set()


@pytest.mark.parametrize("part_bytes", [None, 300_000], ids=["one part", "several parts"])
def test_a_killed_transfer_goes_on_with_the_missing_blocks_alone(s3, path, part_bytes):
    address = s3.put(KEY, CONTENT, part_bytes=part_bytes)
    kill_after(7, s3, path, address)
    assert left_beside(path) == RESUMABLE
    whole.fetch(address, path)
    served = [each.bytes for each in s3.requests(KEY) if each.status == 206]
    assert sum(served) == len(CONTENT), "every byte is fetched once, before the kill or after it"
    assert path.read_bytes() == CONTENT
    assert left_beside(path) == ["object.bin"]


PART, JOURNAL = RESUMABLE


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        (PART, Path.unlink),
        (PART, lambda part: os.truncate(part, 1000)),
        (JOURNAL, Path.unlink),
        (JOURNAL, lambda journal: journal.write_text(journal.read_text()[:-1])),
        (JOURNAL, lambda journal: journal.write_text("?" + journal.read_text()[1:])),
    ],
    ids=["no part", "short part", "no journal", "short journal", "torn journal"],
)
def test_what_cannot_be_trusted_is_fetched_anew(s3, path, name, spoil):
    address = fetch_in_part(s3, path)
    spoil(path.with_name(name))
    before = s3.bytes_served(KEY)
    whole.fetch(address, path)
    assert s3.bytes_served(KEY) - before == len(CONTENT)
    assert path.read_bytes() == CONTENT


def fetch_in_part(s3, path):
    """Fetches until the server fails after nine blocks; returns the address."""
    address = s3.put(KEY, CONTENT)
    s3.fail(KEY, faulty_s3.refuse, after=9)
    with pytest.raises(FetchError):
        whole.fetch(address, path)
    s3.recover()
    assert blocks_on_disk(path) == 9
    return address


@pytest.mark.parametrize("other", [OTHER, CONTENT[:-BLOCK]], ids=["content", "size"])
def test_blocks_of_a_version_that_was_replaced_are_not_kept(s3, path, other):
    address = fetch_in_part(s3, path)
    s3.put(KEY, other)
    before = s3.bytes_served(KEY)
    whole.fetch(address, path)
    assert s3.bytes_served(KEY) - before == len(other)
    assert path.read_bytes() == other


def test_a_resumed_transfer_shows_what_was_there(s3, path, caplog, monkeypatch):
    address = fetch_in_part(s3, path)
    monkeypatch.setattr(runtime, "SECONDS_BETWEEN_PROGRESS_LINES", 0)
    with caplog.at_level(logging.INFO, logger="neuraldiffuser"):
        whole.fetch(address, path)
    (first, *_) = (line for line in caplog.messages if line.startswith("fetching"))
    assert first.startswith("fetching object.bin: 45% (590k of 1.31M)")


# --- a disk that fails ---------------------------------------------------------------------------


def test_too_little_space_is_told_before_anything_is_fetched(path, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1.25e9))
    source = tmp_path / "source"
    source.touch()
    os.truncate(source, 5_000_000_000)
    with pytest.raises(FetchError) as error:
        whole.fetch(str(source), path)
    assert str(error.value) == (
        f"{source} needs 5 GB, and 1.25 GB are free in {path.parent}; make room there, or "
        "choose another folder."
    )
    assert path.with_name(PART).stat().st_size == 0


def test_space_is_needed_for_the_missing_blocks_alone(s3, path, monkeypatch):
    address = fetch_in_part(s3, path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=11 * BLOCK))
    whole.fetch(address, path)
    assert path.read_bytes() == CONTENT


def test_a_disk_that_fills_up_is_told_and_what_arrived_is_kept(s3, path, monkeypatch):
    written, write = [], os.pwrite

    def write_until_full(file, content, start):
        if sum(written) + len(content) > 9 * BLOCK:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(len(content))
        return write(file, content, start)

    address = s3.put(KEY, CONTENT)
    with monkeypatch.context() as full:
        full.setattr(os, "pwrite", write_until_full)
        with pytest.raises(FetchError) as error:
            whole.fetch(address, path)
    assert str(error.value) == (
        f"{path} could not be written (No space left on device); make room for it and run again."
    )
    assert left_beside(path) == RESUMABLE
    before = s3.bytes_served(KEY)
    whole.fetch(address, path)
    assert 0 < s3.bytes_served(KEY) - before < len(CONTENT)
    assert path.read_bytes() == CONTENT


def test_a_limit_on_the_size_of_files_is_told_in_one_sentence(s3, path):
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, 10**6))"
    process = start_fetching(s3.put(KEY, CONTENT), path, before=limit)
    _, errors = process.communicate()
    assert process.returncode == 1
    sentence = f"FetchError: {path} could not be written (File too large); make room for it "
    assert sentence in errors.splitlines()[-1]


def test_a_folder_that_cannot_be_made_is_named(s3, tmp_path):
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "object.bin"
    with pytest.raises(FetchError, match=f"^{path} could not be written "):
        whole.fetch(s3.put(KEY, CONTENT), path)


# --- two processes -------------------------------------------------------------------------------


def test_two_processes_do_not_fetch_the_same_path_at_once(s3, path):
    address = fetch_in_part(s3, path)
    part = path.with_name("object.bin.part")
    before = part.read_bytes()
    with part.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(FetchError) as error:
            whole.fetch(address, path)
    assert str(error.value) == (
        f"{path} is being fetched by another process; wait until it has ended."
    )
    assert part.read_bytes() == before


@pytest.mark.parametrize("is_begun_anew", [False, True])
def test_a_file_that_another_process_finishes_meanwhile_is_not_touched(
    s3, path, monkeypatch, is_begun_anew
):
    part = path.with_name(PART)

    def finish_meanwhile(*_):
        part.rename(path)
        if is_begun_anew:
            part.touch()

    path.parent.mkdir(parents=True)
    part.write_bytes(OTHER[:1000])
    monkeypatch.setattr(fcntl, "flock", finish_meanwhile)
    with pytest.raises(FetchError, match="is being fetched by another process"):
        whole.fetch(s3.put(KEY, CONTENT), path)
    assert path.read_bytes() == OTHER[:1000]


def test_a_file_system_without_locks_will_do(s3, path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", refuse)
    whole.fetch(s3.put(KEY, CONTENT), path)
    assert path.read_bytes() == CONTENT
