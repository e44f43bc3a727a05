"""The real Snakefile on a still smaller world: it ends, does nothing twice, reruns exactly.

One world is built for all tests of this file, so they share a worker.
"""

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from workflow import CORRECTED, MINIATURE, REPOSITORY, TINY, World

from neuraldiffuser import contents, provenance, storage
from neuraldiffuser.config.reconstruction import STIMULUS
from neuraldiffuser.inspection import rates

OVERLAYS = (CORRECTED, MINIATURE, TINY, REPOSITORY / "tests/end_to_end_world.yaml")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    world = World(tmp_path_factory.mktemp("world"), overlays=OVERLAYS)
    answer = world.snakemake()
    assert answer.succeeded, answer.text[-8000:]
    return world


@pytest.fixture(scope="module")
def results(world):
    return world.folder / "results/tiny"


def test_every_claim_of_the_findings_has_numbers(results):
    findings = storage.read_json(results / "findings.json")
    assert findings["claims"]
    for claim in findings["claims"]:
        low, high = claim["interval"]
        assert low <= claim["estimate"] <= high or claim["n"] < 3, claim
        assert isinstance(claim["holds"], bool)


def test_the_report_stands_alone(results):
    page = (results / "report.html").read_text()
    assert "data:image" in page
    assert 'src="http' not in page


def test_scales_are_calibrated_function_by_function(results):
    """The sum borrows one scale and has the other calibrated; voxels have their own."""
    found = {
        path.parent.name: set(storage.read_json(path))
        for path in results.glob("calibrations/*/subj01.json")
    }
    assert found == {
        "guided": {"clip_layers"},
        "brain_encoding": {"encoder"},
        "clip_and_color": {"color"},
    }
    shard = results / "reconstructions/clip_and_color/subj01/shard-0.h5"
    told = storage.read_attributes(shard)
    assert told["guidance"] == "clip_layers + color"
    lent = storage.read_json(results / "calibrations/guided/subj01.json")["clip_layers"]["scale"]
    assert told["scale_clip_layers"] == lent


def test_every_artefact_has_its_provenance(results):
    for path in sorted(results.rglob("*.h5")) + sorted(results.rglob("*.safetensors")):
        made = storage.read_json(provenance.sidecar_path(path))
        assert made["sha256"] == contents.digest(path), path
        assert made["stage"]
        assert made["inputs"]


def test_the_run_keeps_what_its_jobs_took(results):
    kept = {rate.stage: rate for rate in rates.read_rates(results.parent / "rates.json")}
    assert kept["reconstruct_images"].unit == "step" and kept["write_report"].jobs == 1
    assert all(rate.seconds > 0 and rate.machine for rate in kept.values())


def test_test_images_never_train(results):
    """The control behind every number: no decoder or encoder saw a test image."""
    path = results / "voxels/subj01.h5"
    training = set(storage.read_array(path, "training/id").tolist())
    test = set(storage.read_array(path, "test/id").tolist())
    embedded = storage.read_array(results / "embeddings/clip_image_12/subj01.h5", "test/id")
    assert test
    assert not test & training
    assert set(embedded.tolist()) == test


def test_summary_covers_every_variant(results):
    summary = pd.read_csv(results / "evaluation/summary.csv")
    made = {"guided", "unguided", "brain_encoding", "clip_and_color", "guided_best"}
    assert set(summary["variant"]) == made | {STIMULUS}


def test_a_judge_without_weights_is_skipped_with_a_note_in_tables_and_report(results):
    note = "LPIPS: not computed: the weights of alexnet are not there."
    assert note in (results / "tables/table1.md").read_text()
    assert note in (results / "report.html").read_text()
    images = pd.read_csv(results / "evaluation/guided/subj01/images.csv")
    assert "lpips" not in set(images["metric"])


def test_a_selection_is_evaluated_and_shown_like_a_variant(results):
    chosen = pd.read_csv(results / "selections/guided_best/subj01.csv")
    assert set(chosen.groupby("id")["repeat"].count()) == {2}
    assert set(chosen.groupby("id")["chosen"].sum()) == {1}
    best, every = (
        pd.read_csv(results / f"evaluation/{name}/subj01/images.csv")
        for name in ("guided_best", "guided")
    )
    assert set(every["metric"]) - set(best["metric"]) == {"consistency"}
    pixcorr = best[best["metric"] == "pixcorr"].set_index("id")["value"]
    picked = chosen[chosen["chosen"]].assign(metric="pixcorr").merge(every)
    pd.testing.assert_series_equal(pixcorr, picked.set_index("id")["value"])
    assert (results / "gallery/guided_best/subj01.png").is_file()
    strips = sorted((results / "gallery/thumbnails/guided_best/subj01").glob("*.webp"))
    assert [strip.name for strip in strips] == [f"{i:05d}.webp" for i in pixcorr.index]
    assert (results / "gallery/values/guided_best/subj01.js").is_file()
    assert not (results / "reconstructions/guided_best").exists()


def test_a_second_run_does_nothing(world):
    answer = world.snakemake()
    assert answer.succeeded
    assert "Nothing to be done" in answer.text


def test_a_changed_key_reruns_what_reads_it(world):
    """One, of a real run; of all the others test_reruns.py tells."""
    rerun = world.dry_run(changes={"voxels": {"normalisation": "session_all"}}).rules_to_run
    assert {"prepare_voxels", "reconstruct_images", "write_report"} <= rerun
    assert "extract_clip_image" not in rerun


def test_a_decoder_trained_by_two_processes_is_the_same(world, tmp_path):
    pair = World(tmp_path / "pair", overlays=OVERLAYS)
    shutil.copytree(world.folder, pair.folder)
    decoder = "decoders/clip_text/subj01/finetuned"
    (pair.folder / f"results/tiny/{decoder}.safetensors").unlink()
    answer = pair.snakemake(
        f"results/tiny/{decoder}.safetensors", changes={"runtime": {"decoder_processes": 2}}
    )
    assert answer.succeeded and answer.rules_to_run == {"finetune_decoder"}, answer.text[-4000:]
    two, one = (
        pd.read_csv(folder / f"results/tiny/{decoder}_curve.csv")
        for folder in (pair.folder, world.folder)
    )
    np.testing.assert_allclose(two, one, rtol=1e-4)


def test_switches_are_measured_within_the_hours_and_once(world, results):
    """Copies of the world, in which Snakemake reruns what the key touches and nothing else."""
    hours = {"fidelity": {"hours": 0.12}}
    answer = world.snakemake("fidelity", changes=hours)
    assert answer.succeeded, answer.text[-4000:]
    effects = storage.read_json(results / "fidelity/effects.json")["switches"]
    assert set(effects) == {"evaluation.first_resize", "evaluation.identification"}
    assert all("PixCorr" in one["effect"] for one in effects.values())
    logs = {key: (results / f"logs/measure_switch/{key}.log").read_text() for key in effects}
    rerun = set(re.findall(r"^(\w+) +\d+$", logs["evaluation.first_resize"], re.MULTILINE))
    assert rerun - {"total"} == {"evaluate_reconstructions"}
    assert "Nothing to be done" in logs["evaluation.identification"]
    assert "Nothing to be done" in world.dry_run("fidelity", changes=hours).text
    assert "Nothing to be done" in world.dry_run().text


def test_a_touched_script_reruns_nothing(world):
    for script in (REPOSITORY / "workflow_scripts").rglob("*.py"):
        script.touch()
    assert "Nothing to be done" in world.dry_run().text


def test_truncated_betas_are_fetched_again_and_nothing_is_lost(world, results, tmp_path):
    """A copy of the world whose betas are cut off: what follows from them stays as it is."""
    broken = World(tmp_path / "broken", overlays=OVERLAYS)
    shutil.copytree(world.folder, broken.folder)
    betas = sorted((broken.folder / "results/tiny_data").rglob("betas_session01.*hdf5"))[0]
    whole = betas.read_bytes()
    betas.write_bytes(whole[:5000])
    kept = broken.folder / "results/tiny/findings.json"
    answer = broken.snakemake("results/tiny/voxels/subj01.h5")
    assert answer.succeeded, answer.text[-8000:]
    assert betas.read_bytes() == whole
    voxels = "voxels/subj01.h5"
    assert (kept.parent / voxels).read_bytes() == (results / voxels).read_bytes()
    assert json.loads(kept.read_text()) == storage.read_json(results / "findings.json")
