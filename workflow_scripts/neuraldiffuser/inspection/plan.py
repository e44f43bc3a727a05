"""``neuraldiffuser plan``: jobs, hours, disk and download, before anything runs."""

import math
import textwrap
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from neuraldiffuser.config.root import Config
from neuraldiffuser.inspection import rates, volumes
from neuraldiffuser.inspection.jobs import Graph, Job, read_graph
from neuraldiffuser.inspection.rates import Rate
from neuraldiffuser.inspection.work import measure_work

SLOW_LINE = 100e6 / 8  # bytes a second of 100 Mbit/s
NOT_KNOWN = "not known"
HEADINGS = ("stage", "jobs", "to run", "hours", "on", "disk GB", "hours are")
HOUR = 3600
WIDEST = 100  # columns of a note
LARGE = volumes.GB // 2  # of a download that is named
LEAST_HOURS = 0.1  # below which nobody plans


@dataclass(frozen=True)
class Line:
    """One stage of a plan.

    Attributes:
        stage: name of the rule.
        jobs: all of them.
        to_run: those that would run now.
        hours: of a GPU or a CPU that the latter take, one after another; NaN if not known.
        device: "GPU" or "CPU".
        disk: bytes, about, that they will leave.
        labels: where the hours come from.
    """

    stage: str
    jobs: int
    to_run: int
    hours: float
    device: str
    disk: int
    labels: tuple[str, ...]


def add_arguments(parser: ArgumentParser) -> None:
    """Adds what this command understands."""
    parser.add_argument("targets", nargs="*", help="files or rules; by default everything")


def run(arguments: Namespace) -> int:
    """Prints the plan; returns 0."""
    graph = read_graph(arguments.configfiles, targets=arguments.targets)
    lines = plan(graph, rates.list_known(graph.config))
    print("\n".join([*write_table(lines), "", *write_notes(lines, graph)]))
    return 0


def plan(graph: Graph, known: Sequence[Rate]) -> list[Line]:
    """A line per stage, upstream first.

    Args:
        graph: of the experiment.
        known: rates by which work becomes hours.
    """
    stages: dict[str, list[Job]] = {}
    for job in graph.jobs:
        if job.making:
            stages.setdefault(job.rule, []).append(job)
    return [_plan_stage(stage, jobs, graph.config, known) for stage, jobs in stages.items()]


def _plan_stage(stage: str, jobs: Sequence[Job], config: Config, known: Sequence[Rate]) -> Line:
    to_run = [job for job in jobs if job.runs]
    gpus = int(jobs[0].resources.get("gpu", 0))
    seconds, labels = 0.0, {}
    for job in to_run:
        estimated = None if is_fetching(stage) else _estimate(job, config, known, gpus)
        seconds += estimated.seconds * max(gpus, 1) if estimated else math.nan
        labels[estimated.label if estimated else NOT_KNOWN] = None
    return Line(
        stage=stage,
        jobs=len(jobs),
        to_run=len(to_run),
        hours=seconds / HOUR,
        device="GPU" if gpus else "CPU",
        disk=sum(volumes.size_of_job(stage, config, job.wildcards) for job in to_run),
        labels=("as fast as it comes",) if is_fetching(stage) else tuple(labels),
    )


def _estimate(job: Job, config: Config, known: Sequence[Rate], gpus: int) -> rates.Estimate | None:
    work = measure_work(job.rule, config, job.wildcards)
    return rates.estimate(job.rule, work, known, device="cuda" if gpus else "cpu")


def is_fetching(stage: str) -> bool:
    """Whether a stage only brings files, as fast as the network allows."""
    return stage.startswith("fetch_")


# --- words ----------------------------------------------------------------------------------------


def write_table(lines: Sequence[Line]) -> list[str]:
    """The stages and their sum as text, columns aligned; numbers to the right."""
    rows = [_write_line(line) for line in lines] + [_write_total(lines)]
    widths = [max(map(len, column)) for column in zip(HEADINGS, *rows, strict=True)]
    left = {0, len(HEADINGS) - 1}
    return [
        "  ".join(
            cell.ljust(width) if place in left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in [HEADINGS, *rows]
    ]


def _write_line(line: Line) -> tuple[str, ...]:
    labels = "; or ".join(line.labels) if line.to_run else "up to date"
    hours = write_hours(line.hours) if line.to_run else ""
    counts = (str(line.jobs), str(line.to_run))
    return line.stage, *counts, hours, line.device, write_gigabytes(line.disk), labels


def _write_total(lines: Sequence[Line]) -> tuple[str, ...]:
    counts = (str(sum(line.jobs for line in lines)), str(sum(line.to_run for line in lines)))
    return "all", *counts, "", "", write_gigabytes(sum(line.disk for line in lines)), ""


def write_notes(lines: Sequence[Line], graph: Graph) -> list[str]:
    """What the table adds up to: hours by device, what is fetched, how far to trust it."""
    missing = [each for each in volumes.list_downloads(graph.config) if not each.is_there]
    disk = _gigabytes(sum(line.disk for line in lines))
    return [
        *_wrap("hours", _add_up(lines)),
        *_wrap("disk", f"{disk} in {graph.config.paths.results}"),
        *_wrap("download", _tell_downloads(missing)),
        "",
        *textwrap.wrap(
            "Hours are work times seconds per unit of it, one job after another; disk and download "
            "are estimates from shapes and published sizes. A run's end writes what its jobs took "
            f"into {rates.place_of_rates(graph.config)}, which the next plan prefers.",
            WIDEST,
        ),
    ]


def _wrap(heading: str, text: str) -> list[str]:
    start = f"{heading:10}"
    return textwrap.wrap(
        text,
        WIDEST,
        initial_indent=start,
        subsequent_indent=" " * len(start),
        break_on_hyphens=False,
    )


def _add_up(lines: Sequence[Line]) -> str:
    told = [_add_up_device(lines, device) for device in ("GPU", "CPU")]
    unknown = [
        line.stage for line in lines if math.isnan(line.hours) and not is_fetching(line.stage)
    ]
    beside = f", and of {', '.join(unknown)} nothing is known" if unknown else ""
    return " and ".join(told) + beside


def _add_up_device(lines: Sequence[Line], device: str) -> str:
    """Hours of a device and, where these are many, how they are known: by a label's first word."""
    hours: Counter[str] = Counter()
    for line in lines:
        if line.device == device and line.labels and not math.isnan(line.hours):
            hours[line.labels[0].split()[0].rstrip(":")] += line.hours
    total = sum(hours.values())
    many = [f"{write_hours(each)} {origin}" for origin, each in hours.items()]
    beside = f" ({', '.join(many)})" if total >= 10 else ""
    return f"{write_hours(total)} of {device}{beside}"


def _tell_downloads(missing: Iterable[volumes.Download]) -> str:
    sizes: Counter[str] = Counter()
    for each in missing:
        sizes[each.what] += each.size
    if not sizes:
        return "nothing"
    total = sum(sizes.values())
    hours = write_hours(total / SLOW_LINE / HOUR)
    large = {what: size for what, size in sizes.most_common() if size >= LARGE}
    large |= {"others": total - sum(large.values())}
    parts = [f"{_gigabytes(size)} {what}" for what, size in large.items()]
    return f"{_gigabytes(total)} ({hours} hours at 100 Mbit/s): {', '.join(parts)}"


def write_hours(hours: float) -> str:
    """What is an estimate, roughly: ``<0.1``, ``4.2``, ``310``; nothing if it is not known."""
    if math.isnan(hours):
        return ""
    if hours < LEAST_HOURS:
        return f"<{LEAST_HOURS}" if hours else "0"
    return f"{hours:,.1f}" if hours < 10 else f"{hours:,.0f}"


def write_gigabytes(size: int) -> str:
    """GB with one decimal; nothing where there is hardly anything."""
    return f"{size / volumes.GB:,.1f}" if size >= volumes.GB / 20 else ""


def _gigabytes(size: int) -> str:
    return f"{size / volumes.GB:,.1f} GB"
