"""Which GPUs of a machine a job computes on: free ones, its own until its process ends.

Snakemake counts GPUs but does not say which. Here a job's claim to one is a lock on a file of this
machine and user: several runs share the machine's GPUs, and the kernel frees what a process held,
however it ended.
"""

import fcntl
import logging
import os
import random
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from neuraldiffuser import exclusion, machine
from neuraldiffuser.errors import ConfigError

CHOICE = "CUDA_VISIBLE_DEVICES"  # read by CUDA when a process first uses it
FOLDER = Path("/tmp", f"neuraldiffuser-{os.getuid()}")  # on every machine its own
SECONDS_BETWEEN_TRIES = 0.5
SECONDS_OF_PATIENCE = 60.0

logger = logging.getLogger("neuraldiffuser")
_held: list[IO[bytes]] = []


def list_devices() -> list[str]:
    """The GPUs that this process may use, by names that CUDA takes.

    Those of CUDA_VISIBLE_DEVICES where it is set, else all of this machine; none where nvidia-smi,
    too, tells of none.
    """
    chosen = os.environ.get(CHOICE)
    if chosen is None:
        return [gpu.uuid for gpu in machine.list_gpus()]
    return [name.strip() for name in chosen.split(",") if name.strip()]


def claim(count: int, *, folder: Path = FOLDER) -> None:
    """Leaves this process, and those it starts, as many GPUs as it was granted: no one else's.

    Waits until there are enough. Nothing is claimed where it is not known which GPUs there are, nor
    of a Slurm job's GPUs if it has no more than these: nobody else was given them.

    Args:
        count: of GPUs.
        folder: of the locks.

    Raises:
        ConfigError: the machine has fewer, or lets this process use fewer.
    """
    devices = list_devices()
    if not devices or ("SLURM_JOB_ID" in os.environ and count == len(devices)):
        return
    if count > len(devices):
        raise ConfigError(
            f"This job was granted {count} GPUs, but there are {len(devices)} to choose from "
            f"({', '.join(devices)}); run with --resources gpu={len(devices)}, or let "
            f"{CHOICE} name more."
        )
    os.environ[CHOICE] = ",".join(_wait_for(count, devices, folder))


def _wait_for(count: int, devices: Sequence[str], folder: Path) -> list[str]:
    """Names of so many devices, locked from now on."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    patient_until = time.monotonic() + SECONDS_OF_PATIENCE
    while not (locks := _try_to_lock(count, devices, folder)):
        if time.monotonic() > patient_until:
            patient_until = float("inf")
            logger.warning(
                "Still waiting for %d of %d GPUs (%s), which other jobs compute on; run with "
                "--resources gpu=N for fewer at once.",
                count,
                len(devices),
                ", ".join(devices),
            )
        time.sleep(SECONDS_BETWEEN_TRIES * random.uniform(0.5, 1.5))
    _held.extend(locks.values())
    return list(locks)


def _try_to_lock(count: int, devices: Sequence[str], folder: Path) -> dict[str, IO[bytes]]:
    """Locks of so many devices, by name; none of any where fewer are free."""
    with _one_at_a_time(folder):
        locks = {}
        for device, file in zip(devices, _name_locks(devices), strict=True):
            if len(locks) < count and (lock := _lock(folder / file)):
                locks[device] = lock
        if len(locks) < count:
            for lock in locks.values():
                lock.close()
            return {}
        return locks


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Two jobs that each hold half of what both need would wait for ever."""
    with (folder / "choosing.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _lock(path: Path) -> IO[bytes] | None:
    """The open, locked file; None where another process has locked it."""
    file = path.open("wb")
    try:
        exclusion.lock(file.fileno())
    except BlockingIOError:
        file.close()
        return None
    return file


def _name_locks(devices: Sequence[str]) -> list[str]:
    """One file name for each device, whether it is called by its number or by its UUID."""
    uuids = dict(enumerate(gpu.uuid for gpu in machine.list_gpus()))
    names = (uuids.get(int(name), name) if name.isdigit() else name for name in devices)
    return [f"{re.sub(r'[^A-Za-z0-9-]', '_', name)}.lock" for name in names]
