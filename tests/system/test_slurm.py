"""The miniature on a real Slurm: the same numbers as on one machine, whatever befalls its jobs.

The smallest world on a cluster of this one machine; needs Debian's slurm-wlm and munge, and root.
"""

import re
import time
from pathlib import Path

import pytest
import slurm_node
from smallest_world import OVERLAYS, RESULTS, TARGETS, everything
from workflow import World

pytestmark = pytest.mark.system
TESTS = Path(__file__).parents[1]
ON_CPU = {"runtime": {"device": "cpu"}}
# Slurm here keeps no accounts, ends its jobs in seconds, and has files in one place.
OPTIONS = (
    "--slurm-no-account",
    "--slurm-status-command=squeue",
    "--slurm-init-seconds-before-status-checks=5",
    "--latency-wait=5",
)
DECODER = f"{RESULTS}/decoders/clip_text/subj01/pretrained.safetensors"
LOG = f"{RESULTS}/logs/pretrain_decoder/clip_text/subj01.log"


def train_together(*, epochs):
    """The configuration in which two processes train a decoder, in four steps an epoch."""
    return {
        "runtime": {"device": "cpu", "decoder_processes": 2},
        "decoder": {"pretraining": {"epochs": epochs}},
    }


@pytest.fixture(scope="module", autouse=True)
def cluster():
    if reason := slurm_node.why_not():
        pytest.skip(reason)
    with slurm_node.serve():
        yield


def wait_for(condition, *, run, seconds=300):
    """Until something holds of a run that goes on, which is ended where it never does."""
    until = time.monotonic() + seconds
    while not condition():
        if run.poll() is not None or time.monotonic() > until:
            run.kill()
            raise AssertionError(run.communicate()[0][-8000:])
        time.sleep(0.2)


@pytest.fixture(scope="module")
def on_slurm(tmp_path_factory):
    """A world made by Slurm, whose only node is drained for a while."""
    folder = tmp_path_factory.mktemp("slurm")
    world = World(folder, overlays=OVERLAYS, profile="slurm", options=OPTIONS)
    run = world.start(*TARGETS, changes=ON_CPU)
    wait_for(lambda: slurm_node.jobs("RUNNING"), run=run)
    slurm_node.set_node("drain")
    wait_for(lambda: not slurm_node.jobs("RUNNING") and slurm_node.jobs("PENDING"), run=run)
    slurm_node.set_node("resume")
    text, _ = run.communicate()
    assert run.returncode == 0, text[-8000:]
    return world


def test_the_miniature_ends_with_the_same_numbers(undisturbed, on_slurm):
    """Every file of the run on this machine, byte for byte, and nothing else."""
    assert everything(on_slurm) == undisturbed.everything


def read_log(world):
    """What the training's job said last."""
    path = world.folder / LOG
    return path.read_text() if path.exists() else ""


def test_a_training_of_two_processes_goes_on_after_scancel(undisturbed, on_slurm, tmp_path):
    changes = train_together(epochs=200)
    run = on_slurm.start(DECODER, changes=changes)
    wait_for(lambda: "step" in read_log(on_slurm), run=run)
    (job,) = slurm_node.jobs("RUNNING")
    assert slurm_node.ask("squeue", "--noheader", f"--jobs={job}", "--format=%D %C %m") == (
        "1 2 5000M"
    )
    slurm_node.ask("scancel", job)
    wait_for(lambda: slurm_node.jobs("RUNNING") not in ([], [job]), run=run)
    (again,) = slurm_node.jobs("RUNNING")
    asked = slurm_node.ask("squeue", "--noheader", f"--jobs={again}", "--format=%D %C %m")
    assert asked == "1 2 10000M"
    text, _ = run.communicate()
    assert run.returncode == 0, text[-8000:]
    assert int(re.search(r"resuming after step (\d+)", read_log(on_slurm))[1]) >= 25
    local = undisturbed.copy_to(tmp_path / "local")
    answer = local.snakemake(DECODER, changes=changes)
    assert answer.succeeded, answer.text[-8000:]
    decoders = [(world.folder / DECODER).read_bytes() for world in (local, on_slurm)]
    assert decoders[0] == decoders[1]


def test_a_training_ends_within_several_time_limits(on_slurm):
    """Each minute is over before its first checkpoint: three attempts make 60 steps of 25."""
    limit = "--set-resources=pretrain_decoder:runtime=1"
    answer = on_slurm.snakemake(DECODER, limit, changes=train_together(epochs=15))
    assert answer.succeeded, answer.text[-8000:]
    assert "resuming after step 50" in read_log(on_slurm)


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What jobs were given, by the names of their files."""
    world = World(
        tmp_path_factory.mktemp("probes"),
        profile="slurm",
        options=OPTIONS,
        snakefile=TESTS / "slurm_probes.smk",
    )
    files = ("device_1.txt", "device_2.txt", "devices.txt", "outlasted.txt")
    answer = world.snakemake(*files, changes={"runtime": {"device": "cuda"}})
    assert answer.succeeded, answer.text[-8000:]
    return {name: (world.folder / name).read_text() for name in files}


def test_jobs_at_once_have_gpus_of_their_own(told):
    assert sorted(told[f"device_{index}.txt"].strip() for index in (1, 2)) == ["0", "1"]


def test_a_training_on_several_gpus_is_one_job_on_one_node(told):
    assert "devices 0,1" in told["devices.txt"]
    for fact in ("NumNodes=1 ", "NumCPUs=2 ", "NumTasks=1 ", "CPUs/Task=2 ", "gres:gpu:2"):
        assert fact in told["devices.txt"]


def test_a_job_that_outlasts_its_limit_gets_twice_the_time_and_memory(told):
    assert told["outlasted.txt"].strip() == "2:00 200M"
