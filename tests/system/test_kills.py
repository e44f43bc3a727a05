"""Killed at random moments, a world ends as one that was left alone; KILLS says how often."""

import contextlib
import itertools
import os
import random
import shutil
import subprocess
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import psutil  # which comes with Snakemake
import pytest
from smallest_world import OVERLAYS, TARGETS, everything
from workflow import World

pytestmark = pytest.mark.system
KILLS = int(os.environ.get("KILLS", "10"))


def jobs_of(snakemake: psutil.Process) -> dict[psutil.Process, str]:
    """The processes of a run's jobs, each with its rule."""
    found = {}
    for process in snakemake.children(recursive=True):
        try:
            scripts = [word for word in process.cmdline() if "/.snakemake/scripts/" in word]
        except psutil.Error:  # it has just ended
            continue
        if scripts:
            found[process] = Path(scripts[0]).name.split(".")[1]
    return found


def kill_a_worker(_snakemake: psutil.Process, workers: Sequence[psutil.Process]) -> None:
    """The run goes on with what does not wait for that job, then ends with an error."""
    workers[0].kill()


def kill_snakemake(snakemake: psutil.Process, workers: Sequence[psutil.Process]) -> None:
    """Its jobs end with it, although nobody ends them."""
    snakemake.kill()
    _, alive = psutil.wait_procs(workers, timeout=120)
    assert not alive


def kill_everything(snakemake: psutil.Process, workers: Sequence[psutil.Process]) -> None:
    """Nobody is left to tidy up."""
    for process in (snakemake, *workers):
        process.kill()


KINDS = itertools.cycle((kill_a_worker, kill_snakemake, kill_everything))
MOMENTS = random.Random(0)


def disturb(run: subprocess.Popen, *, seconds: float, hits: list[tuple[str, ...]]) -> int:
    """Kills at random moments until a run has ended; returns its exit status.

    Args:
        run: of Snakemake.
        seconds: that a whole run takes.
        hits: how it was killed, and which jobs ran just then; every kill is added.
    """
    while len(hits) < KILLS:
        try:
            return run.wait(seconds * MOMENTS.uniform(0.02, 0.1))
        except subprocess.TimeoutExpired:
            snakemake = psutil.Process(run.pid)
            jobs = jobs_of(snakemake)
            kill = next(KINDS) if jobs else kill_snakemake
        with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended by itself
            kill(snakemake, [*jobs])
            hits.append((kill.__name__, *(sorted(set(jobs.values())) or ["no job yet"])))
    return run.wait()


def test_killed_at_random_moments_the_same_command_ends_with_the_same_data(
    undisturbed, tmp_path, capsys
):
    hits = []
    for number in itertools.count(1):
        world = World(tmp_path / f"world-{number}", overlays=OVERLAYS)
        world.folder.mkdir()
        with (world.folder / "told.txt").open("w") as told:
            ends = (
                disturb(world.start(*TARGETS, output=told), seconds=undisturbed.seconds, hits=hits)
                for _ in range(KILLS + 1)
            )
            assert 0 in ends, f"read {told.name}"
        assert everything(world) == undisturbed.everything
        if len(hits) == KILLS:
            break
        shutil.rmtree(world.folder)
    with capsys.disabled():
        print(f"\n{KILLS} kills in {number} worlds of {undisturbed.seconds:.0f} s, nothing lost:")
        for what, times in sorted(Counter(itertools.chain(*hits)).items()):
            print(f"  {what}: {times}")
