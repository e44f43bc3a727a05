"""Every benchmark runs at its smallest size and writes rows that say how we compare."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
FIELDS = {"name", "value", "unit", "ratio_to_peer", "ratio_to_floor", "device"}


def run(name, folder, *options):
    """What a benchmark prints and the rows that it writes."""
    path = folder / f"{name}.json"
    command = [sys.executable, BENCHMARKS / f"{name}.py", "--size", "tiny", "--json", path]
    answer = subprocess.run([*command, *options], capture_output=True, text=True, timeout=240)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout, json.loads(path.read_text())


@pytest.fixture(scope="module")
def betas(tmp_path_factory):
    folder = tmp_path_factory.mktemp("betas")
    return run("betas", folder, "--folder", folder)


@pytest.fixture(scope="module")
def targets(tmp_path_factory):
    return run("targets", tmp_path_factory.mktemp("targets"), "--threads", "1")


@pytest.fixture(scope="module")
def target_files(tmp_path_factory):
    return run("target_files", tmp_path_factory.mktemp("target_files"))


@pytest.fixture(params=["betas", "targets", "target_files"])
def benchmark(request):
    return request.getfixturevalue(request.param)


def test_rows_have_every_field_and_a_name_of_their_own(benchmark):
    _, rows = benchmark
    assert all(set(row) == FIELDS for row in rows)
    assert len({row["name"] for row in rows}) == len(rows)


def test_numbers_are_positive(benchmark):
    _, rows = benchmark
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


def test_the_table_says_where_it_was_measured(benchmark):
    printed, rows = benchmark
    assert rows[0]["device"] in printed
    assert all(row["name"] in printed for row in rows)


def test_betas_say_what_cold_means(betas):
    assert "POSIX_FADV_DONTNEED" in betas[0]


def test_targets_add_up_to_hours_for_all_of_nsd(targets):
    """The benchmark itself refuses values that differ from the peers'."""
    rows = {row["name"]: row for row in targets[1]}
    rates = [rows[name] for name in ("vae_latent", "clip_text", "clip_image")]
    assert all(row["unit"] == "images/s" and row["ratio_to_floor"] < 1 for row in rates)
    hours = rows["73,000 images, 8 targets"]["value"]
    assert hours == pytest.approx(sum(73_000 / row["value"] for row in rates) / 3600)


def test_half_precision_costs_what_its_digits_say(target_files):
    """float16 keeps 11 binary digits, bfloat16 8."""
    errors = {row["name"]: row["value"] for row in target_files[1] if row["unit"] == "%"}
    stored = [value for name, value in errors.items() if "stored" in name]
    assert len(stored) == 6 and all(0.005 < value < 0.05 for value in stored)
    for name, value in errors.items():
        if "computed in float16" in name:
            assert 4 * value < errors[name.replace("float16", "bfloat16")] < 16 * value
