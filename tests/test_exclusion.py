"""One writer at a time, whoever is killed; nobody outlives the run it works for."""

import errno
import fcntl
import os
import platform
import re
import select
import signal
import subprocess
import sys
import time

import pytest
from workflow import CORRECTED, MINIATURE, World

from neuraldiffuser import exclusion
from neuraldiffuser.errors import StorageError

CLAIMS = "exclusion.claim(Path(sys.argv[1])); print('claimed', flush=True); time.sleep(60)"
ENTERS = """
with exclusion.alone(Path(sys.argv[1])):
    print("entered", flush=True)
    time.sleep(60)
"""
FOLLOWS = "exclusion.follow(); print('follows', flush=True); time.sleep(60)"
IMPORTS = """
import subprocess, sys, time
from pathlib import Path
from neuraldiffuser import exclusion
"""
LEADS = f"""
exclusion.lead()
follower = subprocess.Popen([sys.executable, "-c", {IMPORTS + FOLLOWS!r}])
print(follower.pid, flush=True)
time.sleep(60)
"""


@pytest.fixture
def start():
    """Starts a process that lives for a minute, or until the test ends."""
    started = []

    def run(program, *arguments, **variables):
        process = subprocess.Popen(
            [sys.executable, "-c", IMPORTS + program, *map(str, arguments)],
            env=os.environ | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


def ends_within(seconds, number):
    """Whether a process that is no child of this one is gone in time."""
    try:
        return select.select([os.pidfd_open(number)], [], [], seconds)[0] != []
    except ProcessLookupError:
        return True


def test_a_second_run_in_a_folder_is_refused_and_told_who_is_there(start, tmp_path):
    first = start(CLAIMS, tmp_path / "results")
    assert first.stdout.readline() == "claimed\n"
    with pytest.raises(StorageError) as error:
        exclusion.claim(tmp_path / "results")
    since = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d\d:\d\d"
    assert re.fullmatch(
        f"Another run writes {re.escape(str(tmp_path / 'results'))} "
        rf"\(process {first.pid} on {platform.node()} since {since}\); "
        "wait until it has ended, or end it.",
        str(error.value),
    )


def test_a_killed_run_leaves_nothing_to_unlock(start, tmp_path):
    first = start(CLAIMS, tmp_path)
    assert first.stdout.readline() == "claimed\n"
    first.kill()
    first.wait()
    second = start(CLAIMS, tmp_path)
    assert second.stdout.readline() == "claimed\n"


def test_a_folder_that_cannot_be_written_is_refused_in_one_sentence(tmp_path):
    (tmp_path / "results").write_text("a file where the folder should be")
    with pytest.raises(StorageError) as error:
        exclusion.claim(tmp_path / "results")
    assert str(error.value) == (
        f"{tmp_path / 'results'} cannot be written (File exists); mend that, or name another "
        "folder under paths."
    )


def test_without_locks_a_run_starts_with_a_warning(tmp_path, monkeypatch, caplog):
    def refuse(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setattr(exclusion.logger, "propagate", True)
    exclusion.claim(tmp_path)
    assert f"{tmp_path} knows no locks; start one run in it at a time." in caplog.text


def test_a_second_process_waits_until_the_first_is_gone(start, tmp_path):
    first = start(ENTERS, tmp_path / "logs/job.log")
    assert first.stdout.readline() == "entered\n"
    second = start(ENTERS, tmp_path / "logs/job.log")
    told = "a process of an earlier run still does this; waiting until it ends\n"
    assert second.stderr.readline() == told
    time.sleep(0.3)
    assert not select.select([second.stdout], [], [], 0)[0]
    first.kill()
    assert second.stdout.readline() == "entered\n"


def test_a_killed_leader_takes_its_followers_along(start):
    leader = start(LEADS)
    follower = int(leader.stdout.readline())
    assert leader.stdout.readline() == "follows\n"
    leader.kill()
    assert ends_within(10, follower)


def test_a_follower_goes_on_while_its_leader_lives(start):
    leader = start("time.sleep(60)")
    follower = start(FOLLOWS, **{exclusion.LEADER: f"{platform.node()} {leader.pid}"})
    assert follower.stdout.readline() == "follows\n"
    time.sleep(0.5)
    assert follower.poll() is None


def test_whoever_starts_after_its_leader_has_died_ends_at_once(start):
    leader = subprocess.Popen(["true"])
    leader.wait()
    follower = start(FOLLOWS, **{exclusion.LEADER: f"{platform.node()} {leader.pid}"})
    assert follower.wait(30) == -signal.SIGKILL


def test_a_leader_on_another_machine_is_left_to_that_machine(start):
    follower = start(FOLLOWS, **{exclusion.LEADER: "elsewhere 1"})
    assert follower.stdout.readline() == "follows\n"


def test_a_run_that_a_job_starts_ends_with_that_job(start, tmp_path, monkeypatch):
    """As the runs inside the job that measures a switch."""
    job = start("time.sleep(60)")
    monkeypatch.setenv(exclusion.LEADER, f"{platform.node()} {job.pid}")
    run = World(tmp_path, overlays=(CORRECTED, MINIATURE)).start("-n", output=subprocess.DEVNULL)
    job.kill()
    assert run.wait(60) == -signal.SIGKILL
