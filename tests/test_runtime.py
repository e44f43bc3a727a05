"""Where a job computes: where its rule says, or nowhere."""

import json
from types import SimpleNamespace

import pytest
import torch
from snakemake.iocontainers import Params

from neuraldiffuser import runtime


@pytest.fixture
def enter(tmp_path, monkeypatch):
    """The device that a job with some GPUs computes on, where torch sees a GPU or does not."""
    monkeypatch.setattr(runtime, "OFFLINE", {})
    monkeypatch.setattr(runtime, "_execution", runtime.execution())
    handlers = runtime.logger.handlers

    def run(*, gpus, visible):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: visible)
        job = SimpleNamespace(
            rule="draw_regions",
            input=[],
            output=[],
            log=[str(tmp_path / "job.log")],
            params=Params(fromdict={"settings": json.dumps({}), "code": "as written"}),
            resources={"gpu": gpus},
            threads=torch.get_num_threads(),
            wildcards=[],
        )
        with runtime.job(job):
            return runtime.execution().device

    yield run
    runtime.logger.handlers = handlers


@pytest.mark.parametrize(("gpus", "visible"), [(1, True), (0, True), (0, False)])
def test_a_job_computes_where_its_rule_says(enter, gpus, visible):
    assert enter(gpus=gpus, visible=visible) == ("cuda" if gpus else "cpu")


def test_a_granted_gpu_that_torch_does_not_see_is_refused(enter, tmp_path):
    with pytest.raises(SystemExit):
        enter(gpus=1, visible=False)
    (line,) = (tmp_path / "job.log").read_text().splitlines()
    assert line.partition("ERROR ")[2] == (
        "This job was granted a GPU, but torch sees none; mend the driver, or the partition that "
        "jobs are sent to, or set runtime.device to cpu."
    )
