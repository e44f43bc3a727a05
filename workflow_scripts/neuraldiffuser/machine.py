"""What this machine is: its processor and its GPUs, told without loading torch."""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

SECONDS_TO_ANSWER = 5
QUERY = ("--query-gpu=uuid,name,memory.total,memory.free", "--format=csv,noheader,nounits")
MIB = 1 << 20


@dataclass(frozen=True)
class Gpu:
    """A GPU, the name that tells it from others like it, and its memory in bytes."""

    uuid: str
    name: str
    memory: int
    free: int


@cache
def list_gpus() -> tuple[Gpu, ...]:
    """This machine's GPUs, as the driver's nvidia-smi tells; none where it does not answer."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    try:
        answer = subprocess.run(
            [program, *QUERY], capture_output=True, text=True, timeout=SECONDS_TO_ANSWER, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ()
    return parse_gpus(answer.stdout)


def parse_gpus(answer: str) -> tuple[Gpu, ...]:
    """The GPUs of nvidia-smi's answer, a line each: UUID, name, total and free MiB."""
    rows = [re.split(r"\s*,\s*", line.strip()) for line in answer.splitlines() if line.strip()]
    return tuple(
        Gpu(uuid, name, _read_mib(total), _read_mib(free)) for uuid, name, total, free in rows
    )


def _read_mib(text: str) -> int:
    """Bytes; 0 where the driver does not know, as it says of parts of a GPU."""
    return int(text) * MIB if text.isdigit() else 0


@cache
def describe_processor() -> str:
    """Model and number of cores, such as "AMD EPYC, 2 cores"."""
    places = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.+)", places.read_text()) if places.is_file() else None
    model = found[1].strip() if found else "unknown processor"
    return f"{model}, {os.cpu_count()} cores"


def describe_device(device: str) -> str:
    """Of a "cuda" device the first GPU's name, otherwise the processor."""
    gpus = list_gpus() if device == "cuda" else ()
    return gpus[0].name if gpus else describe_processor()
