"""What every benchmark shares: measuring in a process of its own, rows, table and device."""

import json
import math
import multiprocessing
import os
import re
import resource
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

GIGABYTE = 1e9


@dataclass(frozen=True)
class Measurement:
    """What one call took, and what it returned."""

    seconds: float
    peak_gigabytes: float  # of the whole process, its libraries included
    result: Any


@dataclass(frozen=True)
class Row:
    """One measured quantity beside the peers' way and the floor.

    The quantity is a cost, the smaller the better, or, where ``is_rate``, a rate.
    """

    name: str
    value: float
    unit: str
    peer: float | None = None
    floor: float | None = None
    is_rate: bool = False

    @property
    def ratio_to_peer(self) -> float | None:
        """How many times better than the peer's: larger is better."""
        return self._ratio_to(self.peer)

    @property
    def ratio_to_floor(self) -> float | None:
        """How near to the floor: larger is better, and 1 is the floor."""
        return self._ratio_to(self.floor)

    def _ratio_to(self, other: float | None) -> float | None:
        if other is None:
            return None
        return self.value / other if self.is_rate else other / self.value


def do_nothing(_: Any) -> None:
    """Stands where nothing is to be done."""


def measure(
    work: Callable[[Any], Any],
    argument: Any,
    *,
    before: Callable[[Any], Any] = do_nothing,
    after: Callable[[Any], Any] = do_nothing,
) -> Measurement:
    """Runs ``after(work(argument))`` in a process of its own; only ``work`` is measured."""
    # A forked process has the libraries loaded already. What this process holds counts as its
    # memory, so this process stays small.
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
        return pool.submit(_measure_here, work, argument, before, after).result()


def _measure_here(work: Callable, argument: Any, before: Callable, after: Callable) -> Measurement:
    before(argument)
    started = time.perf_counter()
    result = work(argument)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIGABYTE
    return Measurement(seconds, peak, after(result))


def typical(measurements: Iterable[Measurement]) -> Measurement:
    """The median of the seconds, the maximum of the memory; results must all be equal."""
    measurements = list(measurements)
    first = measurements[0].result
    assert all(measurement.result == first for measurement in measurements), "results differ"
    return Measurement(
        seconds=median(measurement.seconds for measurement in measurements),
        peak_gigabytes=max(measurement.peak_gigabytes for measurement in measurements),
        result=first,
    )


# --- output --------------------------------------------------------------------------------------


def format_table(rows: Iterable[Row]) -> str:
    """A Markdown table, its columns aligned for reading as text, too."""
    head = ["", "ours", "floor", "peers' way", "floor / ours", "peers' / ours"]
    body = [
        [
            row.name,
            *(format_number(value, row.unit) for value in (row.value, row.floor, row.peer)),
            *(format_number(ratio, "") for ratio in (row.ratio_to_floor, row.ratio_to_peer)),
        ]
        for row in rows
    ]
    return format_columns(head, body)


def format_columns(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A Markdown table of cells, its columns aligned."""
    widths = [max(map(len, column)) for column in zip(head, *body, strict=True)]
    lines = [head, ["-" * width for width in widths], *body]
    cells = (
        [cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines
    )
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def format_number(value: float | None, unit: str) -> str:
    """Three digits and a unit; nothing for no value."""
    if value is None:
        return ""
    if isinstance(value, int):
        return f"{value:,} {unit}".strip()
    digits = max(0, 2 - math.floor(math.log10(value))) if value > 0 else 0
    return f"{value:,.{digits}f} {unit}".strip()


def write_rows(path: Path, rows: Iterable[Row], *, device: str) -> None:
    """Writes the rows as JSON."""
    fields = ("name", "value", "unit", "ratio_to_peer", "ratio_to_floor")
    table = [{field: getattr(row, field) for field in fields} for row in rows]
    path.write_text(json.dumps([row | {"device": device} for row in table], indent=2) + "\n")


def describe_processor() -> str:
    """Model and number of cores, such as "AMD EPYC, 2 cores"."""
    found = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    model = found[1].strip() if found else "unknown processor"
    return f"{model}, {os.cpu_count()} cores"


def describe_disk(folder: Path) -> str:
    """Name and kind of the disk that a folder lies on."""
    number = folder.stat().st_dev
    device = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}").resolve()
    if "virtio" in str(device):
        return f"{device.name} (virtual)"
    for disk in (device, device.parent):  # the queue of a partition is its disk's
        flag = disk / "queue" / "rotational"
        if flag.exists():
            return f"{disk.name} ({'rotating' if int(flag.read_text()) else 'solid state'})"
    return "no disk of its own (memory or network)"
