"""Jobs on one machine each compute on GPUs of their own, told apart by locks: no GPU is needed."""

import os
import re
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from workflow import World

from neuraldiffuser import devices, machine
from neuraldiffuser.errors import ConfigError

TESTS = Path(__file__).parent


@pytest.fixture
def start(tmp_path):
    """Starts a job that claims so many devices; its first line tells which."""
    jobs = []

    def run(count, *, visible, **changes):
        environment = os.environ | {
            "PYTHONPATH": str(TESTS.parent / "workflow_scripts"),
            "CUDA_VISIBLE_DEVICES": visible,
        }
        job = subprocess.Popen(
            [sys.executable, str(TESTS / "device_jobs.py"), str(tmp_path), str(count)],
            env=environment | changes,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        jobs.append(job)
        return job

    yield run
    for job in jobs:
        job.kill()
        job.wait()


def read_claim(job):
    """Names of the devices that a job computes on."""
    return job.stdout.readline().strip().split(",")


@pytest.fixture
def nvidia_smi(tmp_path, monkeypatch):
    """A program of that name that lists two GPUs, before all others."""
    program = tmp_path / "bin/nvidia-smi"
    program.parent.mkdir()
    program.write_text(
        "#!/bin/sh\n"
        "echo 'GPU-aaaa-1, NVIDIA A100, 40960, 40000'\n"
        "echo 'GPU-bbbb-2, NVIDIA A100, 40960, 40000'\n"
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    machine.list_gpus.cache_clear()
    yield
    machine.list_gpus.cache_clear()


def test_jobs_at_once_get_devices_of_their_own(start):
    jobs = [start(count, visible="0,1,2,5,7") for count in (1, 2, 1, 1)]
    claims = [read_claim(job) for job in jobs]
    assert [len(claim) for claim in claims] == [1, 2, 1, 1]
    assert sorted(sum(claims, [])) == ["0", "1", "2", "5", "7"]


def test_two_that_need_all_devices_take_turns(start):
    jobs = [start(2, visible="0,1") for _ in range(2)]
    with ThreadPoolExecutor() as pool:
        waits = [pool.submit(read_claim, job) for job in jobs]
        while not any(wait.done() for wait in waits):
            time.sleep(0.05)
        time.sleep(1)
        first, second = sorted(range(2), key=lambda index: not waits[index].done())
        assert not waits[second].done()
        jobs[first].stdin.close()
        assert waits[second].result(timeout=20) == ["0", "1"]


def test_a_killed_job_frees_its_device(start):
    killed = start(1, visible="0")
    assert read_claim(killed) == ["0"]
    next_one = start(1, visible="0")
    killed.kill()
    assert read_claim(next_one) == ["0"]


def test_a_job_of_slurm_keeps_what_slurm_gave_it(start):
    """Where each job's devices are numbered from 0, jobs of one machine share these names."""
    jobs = [start(1, visible="0", SLURM_JOB_ID=number) for number in ("7", "8")]
    assert [read_claim(job) for job in jobs] == [["0"], ["0"]]


def test_jobs_within_one_of_slurm_share_its_devices(start):
    jobs = [start(1, visible="0,1", SLURM_JOB_ID="7") for _ in range(2)]
    assert sorted(map(read_claim, jobs)) == [["0"], ["1"]]


@pytest.mark.usefixtures("nvidia_smi")
def test_without_a_list_the_machine_is_asked():
    assert devices.list_devices() == ["GPU-aaaa-1", "GPU-bbbb-2"]


@pytest.mark.usefixtures("nvidia_smi")
def test_a_list_says_what_may_be_used(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1, GPU-aaaa-1")
    assert devices.list_devices() == ["1", "GPU-aaaa-1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert devices.list_devices() == []


@pytest.mark.usefixtures("nvidia_smi")
def test_a_device_called_by_its_number_is_that_of_its_uuid(start):
    assert read_claim(start(1, visible="1")) == ["1"]
    assert read_claim(start(1, visible="GPU-bbbb-2,GPU-aaaa-1")) == ["GPU-aaaa-1"]


@pytest.mark.usefixtures("nvidia_smi")
@pytest.mark.parametrize(("options", "count"), [((), 2), (("--resources", "gpu=1"), 1)])
def test_a_run_counts_the_devices_of_its_machine(tmp_path, options, count):
    target = "results/tiny/models/stable-diffusion/scheduler/scheduler_config.json.json"
    answer = World(tmp_path).snakemake(target, *options, changes={"runtime": {"device": "cuda"}})
    assert answer.succeeded, answer.text
    (provided,) = re.findall(r"^Provided resources: gpu=\D*(\d+)\D*$", answer.text, re.MULTILINE)
    assert int(provided) == count


def test_more_than_there_are_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    with pytest.raises(ConfigError) as error:
        devices.claim(3, folder=tmp_path)
    assert str(error.value) == (
        "This job was granted 3 GPUs, but there are 2 to choose from (2, 3); run with --resources "
        "gpu=2, or let CUDA_VISIBLE_DEVICES name more."
    )


def test_a_long_wait_is_told_once(start, monkeypatch, tmp_path):
    holder = start(1, visible="0")
    read_claim(holder)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr(devices, "SECONDS_OF_PATIENCE", 0.1)
    monkeypatch.setattr(devices, "SECONDS_BETWEEN_TRIES", 0.1)
    monkeypatch.setattr(devices, "_held", [])
    told = []

    def hear(text, *values):
        told.append(text % values)
        holder.kill()

    monkeypatch.setattr(devices.logger, "warning", hear)
    devices.claim(1, folder=tmp_path)
    assert told == [
        "Still waiting for 1 of 1 GPUs (0), which other jobs compute on; run with --resources "
        "gpu=N for fewer at once."
    ]


def test_where_no_device_is_known_nothing_is_claimed(monkeypatch, tmp_path):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(machine, "list_gpus", tuple)
    devices.claim(1, folder=tmp_path)
    assert "CUDA_VISIBLE_DEVICES" not in os.environ and not list(tmp_path.iterdir())
