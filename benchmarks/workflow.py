"""What the workflow itself costs: jobs, seconds of a dry run, and of a finished run's next start.

    python benchmarks/workflow.py [--size tiny|full] [--json FILE] [--folder FOLDER]

``full`` is the paper's experiment as config.yaml has it: four subjects, eight targets, all variants
of Table 2, shards. Its finished run is pretended: small files with the sidecars of a real one, so
what is measured is how long Snakemake and the workflow take to see that nothing is to be done.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow_scripts"))
sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))

from comparison import Row, describe_processor, format_table, write_rows
from finished_world import finish

from neuraldiffuser.inspection.jobs import read_graph
from neuraldiffuser.provenance import REPOSITORY

TINY = (
    REPOSITORY / "config/fidelity/corrected.yaml",
    REPOSITORY / "config/mini.yaml",
    REPOSITORY / "tests/tiny_world.yaml",
)
OVERLAYS = {"tiny": TINY, "full": ()}
NOTHING = "Nothing to be done"


@dataclass(frozen=True)
class Start:
    """A start of Snakemake: seconds, those of processors alone, and what it said."""

    seconds: float
    processor: float
    said: str

    def rows(self, name: str) -> tuple[Row, Row]:
        """Both times; where other work is going on the second one tells more."""
        return Row(name, self.seconds, "s"), Row(f"{name}: processor", self.processor, "s")


def run_snakemake(*options: str, folder: Path, overlays: Sequence[Path]) -> Start:
    """Starts Snakemake in a folder."""
    configured = ["--configfile", *map(str, overlays)] if overlays else []
    command = [
        *(sys.executable, "-m", "snakemake", *options, "--cores", "2"),
        *("--snakefile", str(REPOSITORY / "Snakefile"), "--directory", str(folder), *configured),
    ]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY / "workflow_scripts")}
    started, used = time.perf_counter(), use_of_children()
    answer = subprocess.run(command, env=environment, capture_output=True, text=True)
    said = answer.stdout + answer.stderr
    if answer.returncode:
        raise SystemExit(said)
    return Start(time.perf_counter() - started, use_of_children() - used, said)


def use_of_children() -> float:
    """Seconds of processors that finished children of this process used."""
    use = resource.getrusage(resource.RUSAGE_CHILDREN)
    return use.ru_utime + use.ru_stime


def measure(folder: Path, overlays: Sequence[Path]) -> Iterator[Row]:
    """The rows, each as soon as it is known.

    Raises:
        SystemExit: something would run, or was not looked at, although everything is there.
    """
    (folder / "resources").symlink_to(REPOSITORY / "resources")
    graph = read_graph(overlays, folder=folder)
    yield Row("jobs", len(graph.jobs), "")
    start = run_snakemake("--dry-run", "--quiet", folder=folder, overlays=overlays)
    yield from start.rows("dry run of a new experiment")
    finish(overlays, folder=folder)
    start = run_snakemake(folder=folder, overlays=overlays)
    seen = len(read_graph(overlays, folder=folder).jobs)
    if NOTHING not in start.said or seen != len(graph.jobs):
        raise SystemExit(f"{seen} of {len(graph.jobs)} jobs were looked at:\n{start.said}")
    yield from start.rows("start of a finished run")


def main(words: Sequence[str] | None = None) -> None:
    """Prints the table; writes the rows where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=OVERLAYS, default="full")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--folder", type=Path, help="in which the finished run stays")
    arguments = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        rows = list(measure(folder, OVERLAYS[arguments.size]))
    device = describe_processor()
    load = os.getloadavg()[0]
    print(f"{arguments.size}, {device}, {load:.1f} processes at work\n\n{format_table(rows)}")
    if arguments.json:
        write_rows(arguments.json, rows, device=device)


if __name__ == "__main__":
    main()
