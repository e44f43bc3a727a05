"""Costs of training and sampling, from sidecars planted beside invented artefacts."""

import shutil

import numpy as np
import pytest
from reporting.invented_results import REPEATS, TARGETS
from reporting.test_tables import PAPER

from neuraldiffuser import storage
from neuraldiffuser.provenance import sidecar_path
from neuraldiffuser.reporting import tables
from neuraldiffuser.reporting.sources import Sources


@pytest.fixture
def sources(world, tmp_path):
    """Copies of decoders and reconstructions; each job took as many seconds as its own number."""
    kinds = {}
    for kind in ("decoders", "reconstructions"):
        kinds[kind] = [tmp_path / path.relative_to(world.results) for path in world.paths(kind)]
        for path in kinds[kind]:
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(world.results / path.relative_to(tmp_path), path)
        for number, path in enumerate(kinds[kind]):
            storage.write_json(sidecar_path(path), {"seconds": number, "device": "cpu"})
    return Sources(kinds)


def make(sources, experiment):
    table = tables.make_table("cost", sources=sources, experiment=experiment, paper=PAPER)
    return table.entries.set_index(["origin", "metric"])


def test_seconds_are_per_image_and_hours_per_decoder(world, experiment, sources):
    entries = make(sources, experiment)
    paths = sources.paths["reconstructions"]
    for variant in ("guided", "unguided"):
        seconds = sum(i for i, path in enumerate(paths) if path.parts[-3] == variant)
        images = len(world.subjects) * world.images * REPEATS
        assert seconds > 0
        found = entries.loc["ours", f"{variant}_seconds"]
        assert found["value"] == pytest.approx(seconds / images)
        assert found["row"] == "this experiment, cpu"
    hours = sum(range(len(sources.paths["decoders"]))) / 3600 / len(TARGETS)
    assert entries.loc[("ours", "training_hours"), "value"] == pytest.approx(hours)


def test_the_papers_costs_stand_beside_ours(experiment, sources):
    theirs = make(sources, experiment).loc["paper"]["value"]
    assert theirs.to_dict() == {
        "training_hours": 10,
        "guided_seconds": 5,
        "unguided_seconds": 3,
        "gpu_memory": 24,
        "training_gpus": 6,
    }


def test_of_a_selection_the_cost_is_that_of_its_maker(experiment, sources):
    report = experiment.report.model_copy(update={"headline": "guided_best"})
    changed = experiment.model_copy(update={"report": report})
    name = ("ours", "guided_seconds")
    assert make(sources, changed).loc[name, "value"] == make(sources, experiment).loc[name, "value"]


def test_a_file_without_a_sidecar_leaves_its_cost_unknown(experiment, sources):
    sidecar_path(sources.paths["decoders"][0]).unlink()
    entries = make(sources, experiment)
    assert np.isnan(entries.loc[("ours", "training_hours"), "value"])
    assert np.isfinite(entries.loc[("ours", "guided_seconds"), "value"])
