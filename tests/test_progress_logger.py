"""The line a person follows: how far by weight, how long still by the pace of the run."""

import json

import pytest
import snakemake_logger_plugin_progress as plugin


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (59.6, "1 min 00 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")],
)
def test_seconds_in_words(seconds, words):
    assert plugin.in_words(seconds) == words


def test_time_left_scales_with_the_pace_of_the_run(monkeypatch):
    clock = iter([100.0, 130.0])
    monkeypatch.setattr(plugin.time, "monotonic", lambda: next(clock))
    pace = plugin.Pace({"slow": 1, "quick": 2}, {"slow": 30.0, "quick": 15.0})
    assert pace.finish("slow") == "[ 50%] 1 of 3 jobs, 30 s so far, about 30 s left"


def test_jobs_are_weighed_by_what_they_took_when_measured(tmp_path):
    rates = [
        {"stage": "train", "jobs": 2, "seconds": 30.0},
        {"stage": "train", "jobs": 1, "seconds": 3.0},
        {"stage": "train", "jobs": 0, "seconds": 36000.0},  # published: nobody ran a job
    ]
    path = tmp_path / "rates.json"
    path.write_text(json.dumps(rates))
    assert plugin.read_seconds(path) == {"train": 11.0}
    assert plugin.read_seconds(tmp_path / "missing.json") == {}


def test_the_miniature_s_stages_were_measured():
    measured = plugin.read_seconds(plugin.RATES)
    assert measured["reconstruct_images"] > measured["make_table"] > 0
