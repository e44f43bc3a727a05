"""Ranges of a file and of an object against slices of the same bytes; faults of each."""

import io
import logging
import threading

import faulty_s3
import numpy as np
import pytest

from neuraldiffuser import runtime
from neuraldiffuser.errors import AlteredObjectError, DataError, FetchError, MissingObjectError
from neuraldiffuser.transfer import ranges, stores
from neuraldiffuser.transfer.ranges import (
    BYTES_PER_BLOCK,
    LocalRanges,
    RangeFile,
    RemoteRanges,
    coalesce,
    read_blocks,
)

KEY = "betas_session01.hdf5"
CONTENT = np.random.default_rng(0).bytes(3 * BYTES_PER_BLOCK + 7)
LENGTH = 100


@pytest.fixture(autouse=True)
def no_object_is_small(monkeypatch):
    monkeypatch.setattr(ranges, "BYTES_READ_AT_ONCE", 0)


@pytest.fixture
def local(tmp_path):
    path = tmp_path / KEY
    path.write_bytes(CONTENT)
    with LocalRanges(path) as reader:
        yield reader


@pytest.fixture
def remote(s3):
    with RemoteRanges(stores.locate(s3.put(KEY, CONTENT))) as reader:
        yield reader


@pytest.fixture(params=["local", "remote"])
def reader(request):
    return request.getfixturevalue(request.param)


def slices(starts, lengths):
    ranges = zip(starts, lengths, strict=True)
    return b"".join(CONTENT[start : start + length] for start, length in ranges)


def draw(number, *, seed):
    """Block starts in any order; some overlap, and one is the file's last."""
    starts = np.random.default_rng(seed).integers(0, len(CONTENT) - LENGTH, number)
    return np.append(starts, len(CONTENT) - LENGTH)


# --- joining -------------------------------------------------------------------------------------


def joined_by_loop(starts, gap):
    runs = []
    for start in sorted(starts.tolist()):
        if runs and start - runs[-1][1] <= gap:
            runs[-1][1] = max(runs[-1][1], start + LENGTH)
        else:
            runs.append([start, start + LENGTH])
    return runs


@pytest.mark.parametrize("gap", [0, 50, 5000, 1 << 30])
@pytest.mark.parametrize("number", [0, 1, 40, 400])
def test_runs_equal_a_loop(number, gap):
    starts = draw(number, seed=number)
    runs = coalesce(starts, length=LENGTH, gap=gap)
    found = np.stack([runs.starts, runs.starts + runs.lengths], axis=1)
    np.testing.assert_array_equal(found, joined_by_loop(starts, gap))


def test_nothing_to_join_gives_no_runs():
    runs = coalesce(np.empty(0, np.int64), length=LENGTH, gap=0)
    assert not len(runs.starts) and not len(runs.lengths) and not len(runs.positions)


# --- reading -------------------------------------------------------------------------------------


def test_ranges_come_in_the_order_asked_for(reader):
    starts, lengths = draw(30, seed=1), np.arange(31) * 3
    assert reader.read(starts, lengths[::-1] + 1).tobytes() == slices(starts, lengths[::-1] + 1)
    assert reader.size == len(CONTENT)


def test_no_ranges_give_no_bytes(reader):
    nothing = np.empty(0, np.int64)
    assert not len(reader.read(nothing, nothing))
    assert read_blocks(reader, nothing, length=LENGTH, gap=0).shape == (0, LENGTH)


@pytest.mark.parametrize("gap", [0, 300, 1 << 30])
def test_blocks_equal_slices_for_any_gap(reader, gap):
    starts = draw(50, seed=2)
    blocks = read_blocks(reader, starts, length=LENGTH, gap=gap)
    assert blocks.tobytes() == slices(starts, [LENGTH] * len(starts))


def test_a_gap_saves_requests_and_costs_bytes(s3, remote):
    starts = np.array([0, 200, 1000])
    read_blocks(remote, starts, length=LENGTH, gap=0)
    apart = len(s3.requests(KEY)), s3.bytes_served(KEY)
    read_blocks(remote, starts, length=LENGTH, gap=100)
    joined = len(s3.requests(KEY)) - apart[0], s3.bytes_served(KEY) - apart[1]
    assert (apart, joined) == ((3, 300), (2, 400))


def test_a_range_file_reads_and_seeks_like_a_file(reader):
    ours, theirs = RangeFile(reader), io.BytesIO(CONTENT)
    rng = np.random.default_rng(3)
    for whence, limit in ((0, len(CONTENT) + 9), (1, 500), (2, 1), (0, 9)) * 8:
        offset = int(rng.integers(0, limit)) if whence != 2 else -int(rng.integers(0, 300))
        size = int(rng.integers(0, 2 * BYTES_PER_BLOCK))
        assert ours.seek(offset, whence) == theirs.seek(offset, whence)
        assert ours.read(size) == theirs.read(size)
        assert ours.tell() == theirs.tell()


def test_a_range_file_reads_each_block_once_and_records_reads(s3, remote):
    file = RangeFile(remote)
    for start in (0, 8, 48, 600):
        file.seek(start)
        file.read(40)
    assert file.reads == [(start, CONTENT[start : start + 40]) for start in (0, 8, 48, 600)]
    assert s3.bytes_served(KEY) == BYTES_PER_BLOCK


def test_a_range_file_reads_in_the_calling_thread(local, monkeypatch):
    threads = []
    monkeypatch.setattr(local, "read_into", lambda *_: threads.append(threading.get_ident()))
    RangeFile(local).read(2 * BYTES_PER_BLOCK)
    why = "while h5py reads it holds a lock that another thread's garbage collection may wait for"
    assert threads == [threading.get_ident()] * 2, why


@pytest.mark.parametrize("length", [0, 1, len(CONTENT)])
def test_a_small_object_moves_once_however_often_it_is_read(s3, monkeypatch, length):
    monkeypatch.setattr(ranges, "BYTES_READ_AT_ONCE", len(CONTENT))
    address = s3.put(KEY, CONTENT[:length])
    with RemoteRanges(stores.locate(address)) as reader:
        for _ in range(2):
            assert RangeFile(reader).read() == CONTENT[:length]
            everything = reader.read(np.array([0, 0]), np.array([length, length]))
            assert everything.tobytes() == 2 * CONTENT[:length]
        with pytest.raises(FetchError, match=f"^{address} "):
            reader.read(np.array([0]), np.array([length + 1]))
    assert s3.bytes_served(KEY) == length


def test_progress_tells_bytes_rate_and_time_left_over_all_readings(remote, caplog, monkeypatch):
    monkeypatch.setattr(runtime, "SECONDS_BETWEEN_PROGRESS_LINES", 0)
    caplog.set_level(logging.INFO, logger="neuraldiffuser")
    with RemoteRanges(stores.locate(remote.name)) as reader:
        reader.read(np.array([0, 50_000]), np.array([10_000, 30_000]))
        reader.read(np.array([100_000]), np.array([40_000]))
    lines = "\n".join(caplog.messages)
    assert f"reading ranges of {KEY}: 25% (10.0k of 40.0k), " in lines
    assert f"reading ranges of {KEY}: 100% (80.0k of 80.0k), " in lines
    assert "B/s, 00:00 left" in lines


# --- faults --------------------------------------------------------------------------------------


def test_a_range_beyond_the_end_of_a_file_is_refused(local):
    with pytest.raises(DataError) as error:
        local.read(np.array([len(CONTENT) - 5]), np.array([6]))
    assert str(error.value) == f"{local.name} is truncated; delete it and run again."


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match="gone.hdf5 is missing; fetch it again"):
        LocalRanges(tmp_path / "gone.hdf5")


def test_a_range_beyond_the_end_of_an_object_is_refused(remote):
    with pytest.raises(FetchError, match=remote.name):
        remote.read(np.array([len(CONTENT) - 5]), np.array([6]))


@pytest.mark.parametrize("fault", [faulty_s3.refuse, faulty_s3.cut])
def test_passing_faults_are_survived(s3, remote, fault):
    s3.fail(KEY, fault, times=2)
    starts = draw(20, seed=4)
    blocks = read_blocks(remote, starts, length=LENGTH, gap=0)
    assert blocks.tobytes() == slices(starts, [LENGTH] * len(starts))


@pytest.mark.parametrize("fault", [faulty_s3.refuse, faulty_s3.cut])
def test_lasting_faults_are_told_in_one_sentence(s3, remote, fault):
    s3.fail(KEY, fault)
    with pytest.raises(FetchError) as error:
        read_blocks(remote, draw(20, seed=5), length=LENGTH, gap=0)
    assert str(error.value).startswith(f"{remote.name} could not be fetched (")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("other", [CONTENT[::-1], CONTENT + b"more"])
def test_an_object_that_is_replaced_meanwhile_is_refused(s3, remote, other):
    remote.read(np.array([0]), np.array([10]))
    s3.put(KEY, other)
    with pytest.raises(AlteredObjectError, match="changed while it was read; run again"):
        remote.read(np.array([0]), np.array([10]))


def test_an_object_that_vanishes_is_named(s3, remote):
    s3.fail(KEY, lambda _: faulty_s3.Response("", status=404))
    with pytest.raises(MissingObjectError, match=f"{remote.name} does not exist"):
        remote.read(np.array([0]), np.array([10]))
