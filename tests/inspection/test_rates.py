"""Work times rate: by hand, which rate is preferred, and what a run teaches the next plan."""

import json
from dataclasses import replace

import pytest

from neuraldiffuser import machine, storage
from neuraldiffuser.diffusion.schedule import choose_guided_steps, count_steps
from neuraldiffuser.inspection import rates
from neuraldiffuser.inspection.rates import Rate
from neuraldiffuser.inspection.work import MORE_FOR_GUIDANCE, WORK, Work, count_passes, measure_work

GUIDED = {"variant": "guided", "subject": "subj01", "shard": "0"}
HERE = Rate("train", "large", "cuda", "this one", "measured", 2, "trial", 100.0, 50.0)
PUBLISHED = replace(HERE, machine="theirs", origin="published", jobs=0, seconds=70.0)
ASSUMED = replace(PUBLISHED, machine="a guess", origin="assumed", seconds=90.0)
SMALL = replace(HERE, networks="small", device="cpu", machine="a core", seconds=10.0)
WORKED = Work(10, "trial", "large")


@pytest.fixture(autouse=True)
def this_machine(monkeypatch):
    monkeypatch.setattr(machine, "describe_device", lambda _: "this one")


@pytest.fixture
def sharded(tiny):
    reconstruction = tiny.reconstruction.model_copy(update={"shards": 2})
    return tiny.model_copy(update={"reconstruction": reconstruction})


def test_work_is_counted_in_what_it_is_done_on(sharded):
    # 8 steps, of which int(0.75 x 8) = 6 run and int(0.2 x 6) = 1 is guided; 12 images, 2 repeats,
    # 2 shards.
    assert count_passes(sharded, "guided") == pytest.approx(6 + 2.4)
    work = measure_work("reconstruct_images", sharded, GUIDED)
    assert work == Work(pytest.approx(12 * 8.4), "step", "stable-diffusion")
    unguided = measure_work("reconstruct_images", sharded, GUIDED | {"variant": "unguided"})
    assert unguided.amount == 12 * 6
    assert measure_work("extract_clip_text", sharded, {}).amount == 116
    assert measure_work("make_table", sharded, {"table": "table1"}) == Work(1, "job")


def test_a_selection_is_one_repeat_of_each_image(tiny):
    chosen = {"variant": "guided_best", "subject": "subj01"}
    assert measure_work("evaluate_reconstructions", tiny, chosen).amount == 12
    assert measure_work("evaluate_reconstructions", tiny, GUIDED).amount == 24


def test_steps_are_those_of_the_sampler(paper):
    steps = count_steps(50, 0.75)
    guided = len(choose_guided_steps(steps, strength=0.2, which="first"))
    assert count_passes(paper, "guided") == steps + MORE_FOR_GUIDANCE * guided


@pytest.mark.parametrize("stage", WORK)
def test_every_stage_has_work(stage, tiny):
    wildcards = GUIDED | {"target": "clip_text", "selection": "guided_best"}
    work = measure_work(stage, tiny, wildcards)
    assert work.amount > 0 and work.unit


def test_rates_of_a_stage_agree_in_their_unit(paper):
    """A rate of another unit would never be found."""
    wildcards = GUIDED | {"target": "clip_text", "selection": "guided_best"}
    for rate in rates.read_rates(rates.KNOWN):
        assert rate.unit == measure_work(rate.stage, paper, wildcards).unit, rate
        assert rate.origin in rates.ORIGINS and rate.seconds > 0 and rate.amount > 0


@pytest.mark.parametrize(
    ("known", "seconds", "label"),
    [
        ([ASSUMED, PUBLISHED, HERE], 5.0, "measured here"),
        ([ASSUMED, PUBLISHED, replace(HERE, machine="that one")], 5.0, "measured on that one"),
        ([ASSUMED, PUBLISHED], 7.0, "published on theirs"),
        ([ASSUMED, SMALL], 9.0, "assumed: a guess"),
        ([SMALL], 1.0, "assumed: as small networks on a CPU"),
    ],
)
def test_the_most_trustworthy_rate_is_taken_and_named(known, seconds, label):
    estimated = rates.estimate("train", WORKED, known, device="cuda")
    assert (estimated.seconds, estimated.label) == (seconds, label)


def test_nothing_is_invented():
    assert rates.estimate("train", WORKED, [HERE, PUBLISHED], device="cpu") is None
    assert rates.estimate("train", Work(1, "trial", "other"), [SMALL], device="cpu") is None
    assert rates.estimate("evaluate", WORKED, [HERE], device="cuda") is None


def pretend(path, *, seconds):
    """An artefact and what of its sidecar is read."""
    path.write_text("made")
    told = {name: "" for name in ("stage", "settings", "parameters", "code", "inputs")}
    told |= {"device": "cpu", "machine": "this one", "seconds": seconds, "measured": {}}
    told |= {"size": 4, "sha256": "", "fingerprint": "", "software": {}, "commit": ""}
    storage.write_json(path.with_name(f"{path.name}.provenance.json"), told)
    return path


def test_a_run_teaches_the_next_plan(sharded, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    jobs = [
        ("reconstruct_images", GUIDED, [pretend(tmp_path / "first.h5", seconds=60.0)]),
        ("reconstruct_images", GUIDED, [pretend(tmp_path / "second.h5", seconds=40.8)]),
        ("reconstruct_images", GUIDED, [tmp_path / "missing.h5"]),
    ]
    rates.keep_rates(jobs, sharded)
    (kept,) = rates.read_rates(rates.place_of_rates(sharded))
    assert (kept.jobs, kept.machine, kept.origin) == (2, "this one", "measured")
    assert kept.seconds_per_unit == pytest.approx(100.8 / (2 * 100.8))
    work = measure_work("reconstruct_images", sharded, GUIDED)
    estimated = rates.estimate("reconstruct_images", work, rates.list_known(sharded), device="cpu")
    assert estimated.label == "measured here"
    assert estimated.seconds == pytest.approx(50.4)


def test_newer_rates_stand_in_the_place_of_older_ones():
    newer = replace(HERE, seconds=1.0)
    assert rates.update([HERE, PUBLISHED], [newer]) == [newer, PUBLISHED]


def test_rates_are_written_as_they_are_read(tmp_path):
    path = tmp_path / "rates.json"
    rates.write_rates(path, [SMALL, HERE])
    assert rates.read_rates(path) == [SMALL, HERE] or rates.read_rates(path) == [HERE, SMALL]
    assert json.loads(path.read_text())[0].keys() == {*Rate.__dataclass_fields__}
