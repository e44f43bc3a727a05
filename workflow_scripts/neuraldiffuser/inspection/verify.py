"""``neuraldiffuser verify``: whether every artefact on disk is what its sidecar says it is."""

import logging
import os
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from neuraldiffuser import contents, provenance, runtime
from neuraldiffuser.inspection.jobs import read_graph

SHOWN = 20  # files of a finding


@dataclass(frozen=True)
class Finding:
    """Artefacts of which one thing is to be said.

    Attributes:
        paths: their places.
        words: what is to be said of them.
        is_wrong: whether results may not be trusted because of it.
    """

    paths: Sequence[Path]
    words: str
    is_wrong: bool


def add_arguments(parser: ArgumentParser) -> None:
    """Adds what this command understands."""
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="files read at once")


def run(arguments: Namespace) -> int:
    """Prints what is found; returns 1 if something is wrong. How far it is goes to stderr."""
    logging.basicConfig(format="%(message)s")
    logging.getLogger("neuraldiffuser").setLevel(logging.INFO)
    graph = read_graph(arguments.configfiles)
    made = {path for job in graph.jobs if job.making for path in job.outputs if not path.is_dir()}
    described = set(find_described(graph.config.written_folders))
    found = list_findings(made=made, described=described, threads=arguments.threads)
    print("\n".join(tell(found, files=len(described))))
    return 1 if any(finding.is_wrong and finding.paths for finding in found) else 0


def find_described(folders: Iterable[Path]) -> Iterator[Path]:
    """Artefacts, on disk or not, beside whose places a sidecar stands."""
    for folder in folders:
        for sidecar in folder.rglob(f"*{provenance.SIDECAR_SUFFIX}"):
            yield sidecar.with_name(sidecar.name.removesuffix(provenance.SIDECAR_SUFFIX))


def list_findings(*, made: set[Path], described: set[Path], threads: int) -> list[Finding]:
    """Compares what stands on disk with its sidecars, byte by byte.

    Args:
        made: what the jobs of this configuration make.
        described: what has a sidecar.
        threads: files that are read at once.
    """
    present = sorted(path for path in described if path.is_file())
    undescribed = sorted(path for path in made - described if path.is_file())
    return [
        Finding(find_altered(present, threads=threads), "not as it was made", is_wrong=True),
        Finding(undescribed, "without a sidecar", is_wrong=True),
        Finding(
            sorted(described.difference(present)),
            "gone, though its sidecar still tells what it was",
            is_wrong=False,
        ),
        Finding(
            sorted(set(present) - made), "made by no job of this configuration", is_wrong=False
        ),
    ]


def find_altered(paths: Sequence[Path], *, threads: int) -> list[Path]:
    """Files that hold other bytes than their sidecars say, or whose sidecars cannot be read."""
    sizes = [path.stat().st_size for path in paths]
    bar = runtime.progress(total=sum(sizes), description="reading", unit="B", scale=True)
    altered = []
    with ThreadPoolExecutor(threads) as pool, bar:
        answers = pool.map(is_unaltered, paths)
        for path, size, unaltered in zip(paths, sizes, answers, strict=True):
            bar.update(size)
            if not unaltered:
                altered.append(path)
    return altered


def is_unaltered(path: Path) -> bool:
    """Whether a file holds exactly the bytes that its sidecar describes."""
    sidecar = provenance.read_sidecar(path)
    return sidecar is not None and contents.digest(path) == sidecar.get("sha256")


def tell(findings: Iterable[Finding], *, files: int) -> Iterator[str]:
    """What was found, in lines."""
    found = [finding for finding in findings if finding.paths]
    for finding in found:
        shown = [f"  {path}" for path in finding.paths[:SHOWN]]
        more = len(finding.paths) - len(shown)
        yield f"{len(finding.paths)} {finding.words}:"
        yield from shown + ([f"  and {more} more"] if more else [])
    if any(finding.is_wrong for finding in found):
        yield "Something is wrong: delete the files named first and run the same command again."
    else:
        yield f"All is well: {files} artefacts, every byte as it was made."
