"""A plan beside sums done by hand, and the size of the paper's experiment."""

import math
import re
from pathlib import Path

import pandas as pd
import pytest

from neuraldiffuser.__main__ import main
from neuraldiffuser.inspection import plan
from neuraldiffuser.inspection.jobs import Graph, Job, read_graph
from neuraldiffuser.inspection.rates import Rate
from neuraldiffuser.provenance import REPOSITORY
from neuraldiffuser.reruns import Making

MOST_JOBS = 3_000


def make_job(number, rule, wildcards, *, gpus=0, runs=True):
    outputs = (Path(f"{number}"),)
    making = Making(rule, wildcards, outputs, (), {}, "none", {})
    return Job(
        number=number,
        rule=rule,
        wildcards=wildcards,
        inputs=(),
        outputs=outputs,
        resources={"threads": 1, "gpu": gpus},
        needs=(),
        making=making,
        runs=runs,
        reason="",
        changes=(),
    )


@pytest.fixture
def graph(paper):
    shard = {"variant": "unguided", "subject": "subj01"}
    training = {"target": "clip_text", "subject": "subj01"}
    return Graph(
        config=paper,
        jobs=(
            make_job(0, "fetch_file", {"object": "x"}),
            make_job(1, "reconstruct_images", shard | {"shard": "0"}, gpus=1),
            make_job(2, "reconstruct_images", shard | {"shard": "1"}, gpus=1),
            make_job(3, "reconstruct_images", shard | {"shard": "2"}, gpus=1, runs=False),
            make_job(4, "finetune_decoder", training, gpus=2),
            make_job(5, "make_table", {"table": "table1"}),
            make_job(6, "make_figure", {"figure": "figure5"}, runs=False),
        ),
    )


KNOWN = [
    Rate("reconstruct_images", "stable-diffusion-v1-4", "cuda", "A", "published", 0, "step", 37, 3),
    Rate(
        "finetune_decoder", "clip_text, 4096 wide", "cuda", "A", "published", 0, "trial", 1, 0.008
    ),
]


def test_hours_and_bytes_are_those_of_the_jobs_that_would_run(graph):
    lines = {line.stage: line for line in plan.plan(graph, KNOWN)}
    images = lines["reconstruct_images"]
    assert (images.jobs, images.to_run, images.device) == (3, 2, "GPU")
    # Two of twenty shards of 1,000 images x 5, 3 s each.
    assert images.hours == pytest.approx(2 * 250 * 3 / 3600)
    assert images.disk == 2 * 250 * 3 * 512 * 512
    assert images.labels == ("published on A",)


def test_two_gpus_cost_twice_their_time(graph):
    (training,) = (line for line in plan.plan(graph, KNOWN) if line.stage == "finetune_decoder")
    assert training.hours == pytest.approx(2 * 150 * 30_000 * 0.008 / 3600)


def test_what_is_not_known_is_said_and_left_out_of_the_sum(graph):
    lines = plan.plan(graph, KNOWN)
    table = next(line for line in lines if line.stage == "make_table")
    assert math.isnan(table.hours) and table.labels == (plan.NOT_KNOWN,)
    told = "\n".join(plan.write_notes(lines, graph))
    # 0.4 h of two shards, and twice 10 h of training.
    assert "20 of GPU (20 published) and 0 of CPU, and of make_table nothing is known" in told
    assert "66.8 GB (1.5 hours at 100 Mbit/s): 39.6 GB stimuli" in told


def test_the_table_says_all(graph):
    table = plan.write_table(plan.plan(graph, KNOWN))
    assert re.split(r"  +", table[0]) == list(plan.HEADINGS)
    rows = {line.split()[0]: line for line in table}
    assert rows["make_figure"].endswith("up to date")
    assert rows["fetch_file"].endswith("as fast as it comes")
    assert rows["reconstruct_images"].split()[1:7] == ["3", "2", "0.4", "GPU", "0.4", "published"]
    assert rows["all"].split()[1:3] == ["7", "5"]


@pytest.mark.parametrize(
    ("hours", "text"), [(math.nan, ""), (0, "0"), (0.01, "<0.1"), (4.24, "4.2"), (1234.5, "1,234")]
)
def test_hours_are_written_as_roughly_as_they_are_known(hours, text):
    assert plan.write_hours(hours) == text


@pytest.fixture(scope="module")
def paper_graph(tmp_path_factory):
    return read_graph(folder=tmp_path_factory.mktemp("paper"))


def test_the_paper_s_experiment_has_at_most_three_thousand_jobs(paper_graph):
    assert len(paper_graph.jobs) <= MOST_JOBS


def test_it_is_the_whole_experiment(paper_graph):
    config = paper_graph.config
    assert len(config.subjects) == 4 and len(config.targets.names) == 8
    assert config.reconstruction.shards > 1
    run = [config.reconstruction.resolved_variants.get(name) for name in config.reconstruction.run]
    columns = {
        (variant.terms["clip_layers"].scale, variant.strength)
        for variant in run
        if variant and variant.source == "brain" and variant.features == "own"
        if "clip_layers" in variant.terms
    }
    table = pd.read_csv(REPOSITORY / "resources/paper_tables/table2_guidance.csv")
    guided = table[table.kappa > 0]
    assert {(row.kappa, row.eta) for row in guided.itertuples()} <= columns


def test_it_leaves_as_much_as_its_configuration_tells(paper_graph):
    """Two ways: job by job of the graph, and worked out without it."""
    from neuraldiffuser.inspection.volumes import size_of_results

    lines = plan.plan(paper_graph, [])
    assert sum(line.disk for line in lines) == size_of_results(paper_graph.config)


def test_the_command_prints_a_plan(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "resources").symlink_to(REPOSITORY / "resources")
    overlays = ["config/fidelity/corrected.yaml", "config/mini.yaml", "tests/tiny_world.yaml"]
    words = ["plan", "results/tiny/voxels/subj01.h5", "--configfile"]
    assert main([*words, *(str(REPOSITORY / path) for path in overlays)]) == 0
    printed = capsys.readouterr().out
    assert "prepare_voxels" in printed and "reconstruct_images" not in printed
    assert "download  nothing" in printed
