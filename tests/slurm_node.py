"""A Slurm cluster of this one machine, for as long as it is needed: Debian's own, with false GPUs.

The executor forgets all of Slurm's variables, SLURM_CONF among them, so the configuration must lie
in /etc/slurm; where one does already, nothing is touched.
"""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
CONFIGURATION = Path("/etc/slurm")
MUNGE = Path("/run/munge")
SECONDS_TO_START = 60
GPUS = 2

# More memory than there is: rules ask for what they need at full size. Root runs all of it.
SLURM_CONF = """
ClusterName=test
SlurmctldHost={host}
SlurmUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
MinJobAge=600
KillWait=20
GresTypes=gpu
NodeName={host} CPUs={cpus} RealMemory=64000 Gres=gpu:{gpus} State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
GRES_CONF = "Name=gpu File=/dev/zero\nName=gpu File=/dev/null\n"


def why_not() -> str | None:
    """Why no cluster can be started here; None where one can."""
    missing = [program for program in PROGRAMS if not shutil.which(program)]
    if missing:
        return f"no {', '.join(missing)} here; install the packages of apt-packages.txt first"
    if os.getuid() != 0:
        return "only root can start Slurm's daemons"
    if (CONFIGURATION / "slurm.conf").exists():
        return f"{CONFIGURATION} describes a cluster already"
    return None


@contextmanager
def serve(cpus: int = 4) -> Iterator[None]:
    """Inside, sbatch and its like lead to a cluster of this machine alone."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stack.enter_context(_written(folder, cpus))
        MUNGE.mkdir(exist_ok=True)
        shutil.chown(MUNGE, "munge", "munge")
        stack.enter_context(_running("munged", "--foreground", user="munge", folder=folder))
        stack.enter_context(_running("slurmctld", "-D", "-c", user="root", folder=folder))
        stack.enter_context(_running("slurmd", "-D", user="root", folder=folder))
        _wait_until_idle()
        try:
            yield
        finally:
            ask("scancel", "--user=root")


@contextmanager
def _written(folder: Path, cpus: int) -> Iterator[None]:
    """The configuration of the cluster, and none afterwards."""
    for name in ("state", "spool"):
        (folder / name).mkdir()
    filled = SLURM_CONF.format(host=socket.gethostname(), folder=folder, cpus=cpus, gpus=GPUS)
    texts = {"slurm.conf": filled, "gres.conf": GRES_CONF}
    try:
        for name, text in texts.items():
            (CONFIGURATION / name).write_text(text)
        yield
    finally:
        for name in texts:
            (CONFIGURATION / name).unlink(missing_ok=True)


@contextmanager
def _running(program: str, *options: str, user: str, folder: Path) -> Iterator[None]:
    """A daemon that is a child of this process, and ends with it."""
    command = [shutil.which(program), *options]
    with (folder / f"{program}.log").open("wb") as log:
        daemon = subprocess.Popen(
            command, stdout=log, stderr=log, user=user, group=user, extra_groups=()
        )
        try:
            yield
        finally:
            daemon.terminate()
            try:
                daemon.wait(timeout=20)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()


def _wait_until_idle() -> None:
    until = time.monotonic() + SECONDS_TO_START
    while not ask("sinfo", "--noheader", "--format=%t", check=False).startswith("idle"):
        if time.monotonic() > until:
            raise TimeoutError(ask("sinfo", "--list-reasons", check=False))
        time.sleep(0.5)


def ask(*command: str, check: bool = True) -> str:
    """What one of Slurm's programs answers."""
    return subprocess.run(command, capture_output=True, text=True, check=check).stdout.strip()


def set_node(state: str) -> None:
    """Has the only node take jobs again ("resume") or end what it runs and take none ("drain")."""
    ask("scontrol", "update", f"NodeName={socket.gethostname()}", f"State={state}", "Reason=test")


def jobs(state: str) -> list[str]:
    """Numbers of the jobs in a state such as "RUNNING"."""
    return ask("squeue", "--noheader", f"--states={state}", "--format=%A").split()
