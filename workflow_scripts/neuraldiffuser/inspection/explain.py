"""``neuraldiffuser explain``: what would run now, and which key, module or file is the reason."""

import shutil
import textwrap
from argparse import ArgumentParser, Namespace
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from neuraldiffuser.inspection.jobs import Job, read_graph
from neuraldiffuser.reruns import Change

WIDEST = 100  # columns
TOGETHER = "\0"  # for a space at which no line may end; textwrap takes a no-break space for one
# What changes of each kind are called, in the order in which they are told.
HEADINGS = {
    "setting": "because the configuration changed",
    "parameter": "because their rule tells them something else",
    "code": "because code changed",
    "input": "because what they read changed",
    "output": "because their files are not as they were made",
    "sidecar": "because their files have no sidecar that tells how they were made",
    "missing": "because their files are not there",
    "other": "for reasons of Snakemake's own",
}


def add_arguments(parser: ArgumentParser) -> None:
    """Adds what this command understands."""
    parser.add_argument("targets", nargs="*", help="files or rules; by default everything")
    parser.add_argument("--jobs", action="store_true", help="tell every job's own reasons too")


def run(arguments: Namespace) -> int:
    """Prints what would run and why; returns 0."""
    graph = read_graph(arguments.configfiles, targets=arguments.targets)
    jobs = [job for job in graph.jobs if job.making]
    causes = find_causes(jobs)
    width = min(shutil.get_terminal_size().columns, WIDEST)
    lines = summarise(jobs, causes, width=width)
    if arguments.jobs:
        lines += ["", *list_jobs(jobs, causes, width=width)]
    print("\n".join(lines))
    return 0


def find_causes(jobs: Sequence[Job]) -> dict[int, list[Change]]:
    """Why each job that would run does so by itself; nothing where only others' files change.

    Returns:
        changes by the number of every job that would run.
    """
    running = [job for job in jobs if job.runs]
    remade = {str(path) for job in running for path in job.outputs}
    numbers = {job.number for job in running}
    return {job.number: _find_causes(job, remade, running=numbers) for job in running}


def _find_causes(job: Job, remade: set[str], *, running: set[int]) -> list[Change]:
    own = [each for each in job.changes if each.kind != "input" or each.name not in remade]
    if not own and running.isdisjoint(job.needs):
        return [Change("other", job.reason, "", "")]
    return own


def summarise(jobs: Sequence[Job], causes: dict[int, list[Change]], *, width: int) -> list[str]:
    """Lines that say how many jobs would run, for which reasons, and of which stages."""
    if not causes:
        return [f"Nothing would run: {len(jobs)} of {len(jobs)} jobs are up to date."]
    return [
        f"{len(causes)} of {len(jobs)} jobs would run:",
        *_tell_causes(jobs, causes, width=width),
        "",
        *_count_stages(jobs, causes),
    ]


def _tell_causes(jobs: Sequence[Job], causes: dict[int, list[Change]], *, width: int) -> list[str]:
    rules = {job.number: job.rule for job in jobs}
    behind: dict[Change, list[int]] = defaultdict(list)
    for number, changes in causes.items():
        for change in changes:
            behind[change].append(number)
    lines = []
    for kind, heading in HEADINGS.items():
        of_kind = {change: numbers for change, numbers in behind.items() if change.kind == kind}
        if of_kind:
            concerned = {number for numbers in of_kind.values() for number in numbers}
            lines.append(f"  {len(concerned)} {heading}")
            for change, numbers in _condense(of_kind):
                stages = ", ".join(_count(rules[number] for number in numbers))
                lines += _indent(write_change(change), 6, width) + _indent(stages, 10, width)
    following = sum(not changes for changes in causes.values())
    return lines + ([f"  {following} because of those"] if following else [])


def _condense(behind: dict[Change, list[int]]) -> Iterable[tuple[Change, list[int]]]:
    """Files that are not there are told by their stages alone."""
    missing = sorted({n for change, ns in behind.items() if change.kind == "missing" for n in ns})
    if missing:
        yield Change("missing", "", "", ""), missing
    for change, numbers in behind.items():
        if change.kind != "missing":
            yield change, numbers


def write_change(change: Change) -> str:
    """A change in words: ``decoder.prior.depth: 6, was 4``."""
    if change.kind in ("missing", "other", "code"):
        return change.name
    return f"{change.name}: {change.now}, was {change.before}"


def _count(rules: Iterable[str]) -> list[str]:
    return [f"{count}{TOGETHER}{rule}" for rule, count in Counter(rules).items()]


def _count_stages(jobs: Sequence[Job], causes: dict[int, list[Change]]) -> list[str]:
    running = Counter(job.rule for job in jobs if job.number in causes)
    first = Counter(job.rule for job in jobs if causes.get(job.number))
    lines = ["  jobs  for a reason of their own  stage"]
    return lines + [f"{n:6}  {first[rule]:26}  {rule}" for rule, n in running.items()]


def list_jobs(jobs: Sequence[Job], causes: dict[int, list[Change]], *, width: int) -> list[str]:
    """A line for every job that would run, with its own reasons."""
    lines = []
    for job in jobs:
        if job.number in causes:
            name = " ".join([job.rule, *job.wildcards.values()])
            told = "; ".join(map(write_change, causes[job.number])) or "because of others"
            lines.append(textwrap.shorten(f"{name}: {told}", width, placeholder=" …"))
    return lines


def _indent(text: str, columns: int, width: int) -> list[str]:
    if not text:
        return []
    shown = textwrap.shorten(text, 3 * (width - columns), placeholder=" …")
    margin = " " * columns
    lines = textwrap.wrap(shown, width, initial_indent=margin, subsequent_indent=margin)
    return [line.replace(TOGETHER, " ") for line in lines]
