"""Every leaf of the configuration, changed alone, reruns exactly what reads it and what follows.

On a finished miniature whose files are stubs with the sidecars of a real run; that real runs leave
such sidecars behind is for test_end_to_end.py to show.
"""

import random
from collections.abc import Iterable

import pytest
from finished_world import finish
from rerun_table import ONLY_ONE_VALUE, change, find_row, list_leaves
from workflow import CORRECTED, MINIATURE, REPOSITORY, TINY

from neuraldiffuser.evaluation.switches import merge
from neuraldiffuser.inspection.explain import find_causes
from neuraldiffuser.inspection.jobs import Job, read_graph

OVERLAYS = (CORRECTED, MINIATURE, TINY)
SAMPLED = 20
MODELS = {"paths": {"models": str(REPOSITORY / "resources/mini_models")}}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder with a finished miniature, all of which can also be found under other names."""
    folder = tmp_path_factory.mktemp("world")
    finish(OVERLAYS, folder=folder, **MODELS)
    (folder / "linked_results").symlink_to(folder / "results")
    (folder / "linked_data").symlink_to(folder / "results/tiny_data")
    (folder / "results/linked").symlink_to(folder / "results/tiny")
    (folder / "linked_models").symlink_to(MODELS["paths"]["models"])
    return folder


@pytest.fixture(scope="module")
def leaves(world):
    """Every leaf of the miniature's configuration by its names, without those of one value."""
    config = read_graph(OVERLAYS, folder=world, changes=MODELS).config
    found = dict(list_leaves(config.model_dump(mode="json")))
    return {
        names: value
        for names, value in found.items()
        if find_row(".".join(names)).value is not ONLY_ONE_VALUE
    }


def check_leaf(world, names, value):
    """Changes one leaf; fails unless exactly the rules of its row, and what follows, would run."""
    row = find_row(".".join(names))
    changed = nest_names(names, change(value, row))
    graph = read_graph(OVERLAYS, folder=world, changes=merge(MODELS, merge(row.beside, changed)))
    jobs = [job for job in graph.jobs if job.making]
    causes = find_causes(jobs)
    first = {number for number, changes in causes.items() if changes}
    assert {job.rule for job in jobs if job.number in first} == set(row.rules.split())
    assert set(causes) == (follow(first, jobs) if row.followed else first)


def nest_names(names, value):
    """Sections around a value; names may hold dots."""
    for name in reversed(names):
        value = {name: value}
    return value


def follow(first: Iterable[int], jobs: Iterable[Job]) -> set[int]:
    """Jobs that read, directly or not, what some first ones make; those themselves."""
    running = set(first)
    remade = {path for job in jobs if job.number in running for path in job.outputs}
    for job in jobs:  # upstream first
        if remade.intersection(job.inputs):
            running.add(job.number)
            remade.update(job.outputs)
    return running


@pytest.mark.system
def test_every_leaf_reruns_exactly_what_reads_it_and_what_follows(world, leaves, subtests):
    for names, value in leaves.items():
        with subtests.test(".".join(names)):
            check_leaf(world, names, value)
    print(f"{len(leaves)} leaves were changed, each alone.")


def test_some_leaves_rerun_exactly_what_reads_them_and_what_follows(world, leaves):
    chosen = random.Random(0).sample(sorted(leaves), SAMPLED)
    for names in chosen:
        check_leaf(world, names, leaves[names])
    print(f"{SAMPLED} of {len(leaves)} leaves were changed, each alone.")
