"""A file is what it holds: its date and place do not count, every change of its bytes does."""

import hashlib
import os

import pytest

from neuraldiffuser import contents

LARGE = contents.BLOCKS * contents.BYTES_PER_BLOCK * 4


def write(path, *, size, at=0, value=b""):
    """A file of zeros, but for some bytes at a place."""
    with path.open("wb") as file:
        file.truncate(size)
        file.seek(at)
        file.write(value)
    return path


@pytest.mark.parametrize("size", [0, 1, 10, LARGE])
def test_a_copy_elsewhere_of_another_date_is_the_same(tmp_path, size):
    one, two = (write(tmp_path / name, size=size) for name in ("one.h5", "two.bin"))
    os.utime(two, (1_000_000_000, 1_000_000_000))
    assert contents.fingerprint(one) == contents.fingerprint(two)
    assert contents.identify(one) == contents.identify(two)


@pytest.mark.parametrize("size", [10, LARGE])
def test_a_truncated_or_longer_file_is_another(tmp_path, size):
    found = {contents.fingerprint(write(tmp_path / "x", size=size + n)) for n in (-1, 0, 1)}
    assert len(found) == 3


@pytest.mark.parametrize("at", [0, LARGE - 1])
def test_the_first_and_the_last_byte_of_a_large_file_count_at_a_glance(tmp_path, at):
    before = contents.fingerprint(write(tmp_path / "x", size=LARGE))
    assert contents.fingerprint(write(tmp_path / "y", size=LARGE, at=at, value=b"1")) != before


def test_every_byte_of_a_small_file_counts_at_a_glance(tmp_path):
    size = contents.BLOCKS * contents.BYTES_PER_BLOCK
    before = contents.fingerprint(write(tmp_path / "x", size=size))
    for at in (1, size // 2 + 1, size - 2):
        assert contents.fingerprint(write(tmp_path / "y", size=size, at=at, value=b"1")) != before


def test_a_rewritten_file_is_read_again(tmp_path):
    path = write(tmp_path / "x", size=10)
    before = contents.fingerprint(path)
    write(path, size=10, at=5, value=b"1")
    os.utime(path, (1_000_000_000, 1_000_000_000))
    assert contents.fingerprint(path) != before


def test_identity_is_the_digest_of_all_bytes_unless_reading_them_takes_long(tmp_path, monkeypatch):
    path = write(tmp_path / "x", size=10, at=3, value=b"abc")
    assert contents.identify(path) == hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(contents, "LARGEST_TO_DIGEST", 9)
    assert contents.identify(path) == f"fingerprint {contents.fingerprint(path)}"
