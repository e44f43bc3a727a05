"""What the workflow refuses before it starts anything, in one sentence."""

import os

import pytest
from workflow import CORRECTED, MINIATURE, World

from neuraldiffuser import exclusion


@pytest.fixture
def nsd(tmp_path):
    """The paper's experiment, with no data at all."""
    return World(tmp_path, overlays=())


def test_the_whole_experiment_is_planned_without_data(nsd):
    answer = nsd.dry_run("--quiet", "rules")
    assert answer.succeeded, answer.text[-3000:]
    assert "reconstruct_images" in answer.text


def test_without_accepted_terms_nothing_is_fetched(nsd):
    answer = nsd.snakemake()
    assert not answer.succeeded
    assert "The NSD data access agreement has not been accepted" in answer.text
    assert "GB of betas (the nsdgeneral voxels alone)" in answer.text
    assert "make demo" in answer.text
    assert not list((nsd.folder / "data").rglob("*.hdf5"))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"experimnt": "x"}, "unknown key experimnt; did you mean experiment?"),
        ({"subjects": ["subj09"]}, "subjects names subj09, which has no sessions in nsd.sessions"),
        ({"seed": "many"}, "seed is 'many': input should be a valid integer"),
        (
            {"reconstruction": {"run": ["guidedd"]}},
            "run names guidedd; known variants are guided, ",
        ),
    ],
)
def test_mistakes_in_the_configuration_are_one_sentence(tmp_path, changes, sentence):
    world = World(tmp_path, overlays=(CORRECTED, MINIATURE))
    answer = world.dry_run(changes=changes)
    assert not answer.succeeded
    assert sentence in answer.text
    assert "Traceback" not in answer.text


def test_a_target_that_does_not_exist_is_named(tmp_path):
    world = World(tmp_path, overlays=(CORRECTED, MINIATURE))
    answer = world.dry_run("results/mini/targets/clip_image_99.h5")
    assert not answer.succeeded
    assert "clip_image_99" in answer.text


def test_a_second_run_is_refused_and_may_look(tmp_path):
    world = World(tmp_path, overlays=(CORRECTED, MINIATURE))
    exclusion.claim(tmp_path / "results/mini")
    answer = world.snakemake()
    assert not answer.succeeded
    refusal = f"Another run writes results/mini (process {os.getpid()} on "
    assert refusal in answer.text
    assert "wait until it has ended, or end it." in answer.text
    assert "Traceback" not in answer.text
    assert not (tmp_path / "results/mini_bucket").exists()
    assert world.dry_run().succeeded


EXECUTOR = """
from snakemake.exceptions import WorkflowError
from snakemake_interface_executor_plugins.executors.base import AbstractExecutor
from snakemake_interface_executor_plugins.settings import CommonSettings

common_settings = CommonSettings(
    non_local_exec=True, implies_no_shared_fs=False, job_deploy_sources=False
)


class Executor(AbstractExecutor):
    def run_job(self, job):
        raise WorkflowError(f"{job.rule} is sent away")

    def shutdown(self):
        pass

    cancel = shutdown
    handle_job_success = handle_job_error = None
"""


@pytest.mark.parametrize(
    ("device", "sentence"),
    [
        ("auto", "runtime.device is auto, but jobs run on other machines than this one; set "),
        ("cpu", "generate_mini_world is sent away"),
    ],
)
def test_jobs_on_other_machines_are_told_their_device(tmp_path, device, sentence):
    """This machine's own devices say nothing of theirs."""
    plugin = tmp_path / "library/snakemake_executor_plugin_elsewhere/__init__.py"
    plugin.parent.mkdir(parents=True)
    plugin.write_text(EXECUTOR)
    world = World(tmp_path, overlays=(CORRECTED, MINIATURE), library=(tmp_path / "library",))
    answer = world.snakemake(
        "--executor", "elsewhere", "--jobs", "1", changes={"runtime": {"device": device}}
    )
    assert not answer.succeeded
    assert sentence in answer.text
    assert ("is sent away" in answer.text) is (device == "cpu")
