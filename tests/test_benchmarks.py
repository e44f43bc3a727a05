"""Every benchmark runs at its smallest size and writes rows that say how we compare."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
FIELDS = {"name", "value", "unit", "ratio_to_peer", "ratio_to_floor", "device"}


@pytest.fixture(scope="module")
def betas(tmp_path_factory):
    """What the benchmark of betas prints and the rows that it writes."""
    folder = tmp_path_factory.mktemp("benchmark")
    command = [sys.executable, BENCHMARKS / "betas.py", "--size", "tiny", "--folder", folder]
    path = folder / "rows.json"
    answer = subprocess.run([*command, "--json", path], capture_output=True, text=True, timeout=120)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout, json.loads(path.read_text())


def test_rows_have_every_field_and_a_name_of_their_own(betas):
    _, rows = betas
    assert all(set(row) == FIELDS for row in rows)
    assert len({row["name"] for row in rows}) == len(rows)


def test_numbers_are_positive(betas):
    _, rows = betas
    numbers = [row[field] for row in rows for field in ("value", "ratio_to_peer", "ratio_to_floor")]
    assert all(number > 0 for number in numbers if number is not None)


def test_readings_stand_beside_the_peers_and_the_floor(betas):
    _, rows = betas
    readings = [row for row in rows if row["name"].endswith(("warm: read", "cold: read"))]
    assert len(readings) == 5
    assert all(row["ratio_to_peer"] and row["ratio_to_floor"] for row in readings)


def test_a_region_moves_no_more_bytes_than_the_file(betas):
    _, rows = betas
    moved = [row for row in rows if row["name"].endswith("moved")]
    assert moved and all(row["ratio_to_peer"] >= 1 for row in moved)  # so small, it moves once


def test_the_table_says_where_it_was_measured_and_how(betas):
    printed, rows = betas
    assert rows[0]["device"] in printed
    assert all(row["name"] in printed for row in rows)
    assert "POSIX_FADV_DONTNEED" in printed
