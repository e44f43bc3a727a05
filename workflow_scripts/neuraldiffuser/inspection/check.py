"""``neuraldiffuser check``: what an experiment lacks on this machine, in a second or two.

Looks at the GPU, the disk, the terms, the weights, the network where something must be fetched, and
the versions of packages; starts and loads nothing.
"""

import importlib.metadata
import os
import resource
import shutil
import socket
import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import yaml

from neuraldiffuser import exclusion, machine
from neuraldiffuser.config.base import merge
from neuraldiffuser.config.root import Config
from neuraldiffuser.config.validation import validate
from neuraldiffuser.errors import TermsError
from neuraldiffuser.inspection import volumes
from neuraldiffuser.models import presence
from neuraldiffuser.nsd.locations import is_remote
from neuraldiffuser.nsd.terms import require_terms
from neuraldiffuser.provenance import REPOSITORY

PAPER_MEMORY = 24 * 10**9  # of a GPU, which the paper recommends
OPEN_FILES = 1024  # Linux's own default; regions are fetched by 64 connections at once
SECONDS_TO_CONNECT = 2
PORTS = {"http": 80, "https": 443}
HUGGING_FACE = "huggingface.co"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: it is.
        words: what was found and, where something is missing, what to do.
        is_missing: whether the experiment cannot run without it.
    """

    what: str
    words: str
    is_missing: bool = False


def add_arguments(_: ArgumentParser) -> None:
    """It understands nothing beside the overlays."""


def run(arguments: Namespace) -> int:
    """Prints a line per finding; returns 1 if something necessary is missing."""
    findings = list(look(read_config(arguments.configfiles)))
    width = max(len(finding.what) for finding in findings)
    for finding in findings:
        sign = "missing" if finding.is_missing else "ok     "
        print(f"{sign}  {finding.what.ljust(width)}  {finding.words}")
    return int(any(finding.is_missing for finding in findings))


def read_config(overlays: Iterable[Path]) -> Config:
    """The checked configuration of an experiment, without Snakemake, which takes seconds."""
    merged: dict = {}
    for path in [REPOSITORY / "config.yaml", *overlays]:
        merged = merge(merged, yaml.safe_load(path.read_text(encoding="utf-8")) or {})
    return validate(merged)


def look(config: Config) -> Iterator[Finding]:
    """Everything that is looked at, one after another; the network meanwhile."""
    with ThreadPoolExecutor(1) as pool:
        network = pool.submit(look_at_network, config)
        yield look_at_device(config, machine.list_gpus())
        yield look_at_packages(REPOSITORY / "requirements.txt")
        yield look_at_open_files(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        yield from look_at_disks(config)
        yield look_at_terms(config)
        yield from look_at_weights(config)
        yield network.result()


# --- the machine ----------------------------------------------------------------------------------


def look_at_device(config: Config, gpus: Iterable[machine.Gpu]) -> Finding:
    """Where networks will run, and whether there is enough memory."""
    largest = max(gpus, key=lambda gpu: gpu.memory, default=None)
    wanted = config.runtime.device
    if largest is None:
        words = f"none; networks run on the processor ({machine.describe_processor()})"
        if wanted == "cuda":
            words = "runtime.device is cuda, but nvidia-smi shows none here; mend the driver, or "
            words += "set runtime.device to cpu (jobs of a cluster may see their own)"
        return Finding("GPU", words, is_missing=wanted == "cuda")
    if wanted == "cpu":
        return Finding("GPU", f"{largest.name}, not used: runtime.device is cpu")
    words = f"{largest.name}, {largest.free / 1e9:.0f} of {largest.memory / 1e9:.0f} GB free"
    if largest.memory < PAPER_MEMORY:
        words += f"; the paper recommends {PAPER_MEMORY / 1e9:.0f} GB, less works more slowly"
    return Finding("GPU", words)


def look_at_open_files(limit: int) -> Finding:
    """How many files a process may have open at once."""
    if limit == resource.RLIM_INFINITY or limit >= OPEN_FILES:
        return Finding("open files", f"{limit} at once")
    words = f"{limit} at once; raise it to {OPEN_FILES} (ulimit -n {OPEN_FILES})"
    return Finding("open files", words, is_missing=True)


def look_at_packages(requirements: Path) -> Finding:
    """Whether the pinned versions are installed."""
    pins = [line.partition("#")[0].strip() for line in requirements.read_text().splitlines()]
    wrong = [told for pin in pins if pin for told in _compare_version(pin)]
    if not wrong:
        return Finding("packages", f"as {requirements.name} pins them")
    words = f"{', '.join(wrong)}; run: pip install -r {requirements.name}"
    return Finding("packages", words, is_missing=True)


def _compare_version(pin: str) -> Iterator[str]:
    name, _, version = pin.partition("==")
    name = name.partition("[")[0]
    try:
        installed = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        yield f"{name} is not installed"
        return
    if installed.partition("+")[0] != version:
        yield f"{name} is {installed}, not {version}"


# --- the experiment -------------------------------------------------------------------------------


def look_at_terms(config: Config) -> Finding:
    """Whether NSD may be fetched."""
    if not config.nsd.is_fetched_from_a_network:
        return Finding("NSD's terms", "not needed: nothing of NSD is fetched")
    try:
        require_terms(config.nsd, subjects=config.everybody, data=config.paths.data)
    except TermsError as error:
        return Finding("NSD's terms", str(error), is_missing=True)
    return Finding("NSD's terms", "accepted")


def look_at_weights(config: Config) -> Iterator[Finding]:
    """Every model that the experiment reads: there, to be fetched, or missing."""
    for name, model in config.used_models.items():
        folder, absent = presence.name_place(config, name), presence.list_absent(config, name)
        if model.is_packaged:
            yield Finding(name, f"brought by a package ({model.source})")
        elif not absent:
            yield Finding(name, f"{_count_files(len(model.files))} in {folder}")
        elif presence.is_skipped(config, name):
            yield Finding(name, f"{folder} lacks {absent[0]}; what it would judge is skipped")
        elif model.is_fetched:
            size = sum(volumes.size_of_file(model, file) for file in absent)
            yield Finding(name, f"{size / volumes.GB:.2f} GB will be fetched into {folder}")
        else:
            words = f"{folder} lacks {_count_files(len(absent))}, {absent[0]} first; put them there"
            yield Finding(name, f"{words}, or name their source in models.zoo.{name}", True)


def _count_files(number: int) -> str:
    return f"{number} file{'s' if number > 1 else ''}"


def look_at_network(config: Config) -> Finding:
    """Whether the homes of what must be fetched answer; nobody is asked where nothing must be."""
    hosts = sorted(list_hosts(config))
    if not hosts:
        return Finding("network", "not needed: nothing is to be fetched")
    with ThreadPoolExecutor(len(hosts)) as pool:
        answers = dict(zip(hosts, pool.map(answers_at, hosts), strict=True))
    silent = [f"{host}:{port}" for (host, port), answered in answers.items() if not answered]
    if not silent:
        return Finding("network", f"{', '.join(host for host, _ in hosts)} answer")
    words = f"no answer from {', '.join(silent)} within {SECONDS_TO_CONNECT} s; connect this "
    words += "machine, or run `snakemake fetch_inputs` on one that is"
    return Finding("network", words, is_missing=True)


def list_hosts(config: Config) -> set[tuple[str, int]]:
    """Host and port of every place from which something is still to come."""
    missing = {each.what for each in volumes.list_downloads(config) if not each.is_there}
    places = {"captions": config.nsd.captions_url, "stimuli": config.nsd.bucket}
    mirrored = config.nsd.source == "mindeye2"
    places["betas"] = config.nsd.mindeye2_url if mirrored else config.nsd.bucket
    places |= {name: model.source for name, model in config.used_models.items()}
    addresses = (places[what] for what in missing)
    return {find_host(address, config.nsd.region) for address in addresses if is_remote(address)}


def find_host(address: str, region: str) -> tuple[str, int]:
    """Where an address leads: hf:// to the hub, s3:// to the region's endpoint."""
    parts = urlsplit(address)
    if parts.scheme == "hf":
        return _split_host(os.environ.get("HF_ENDPOINT", f"https://{HUGGING_FACE}"))
    if parts.scheme == "s3":
        usual = f"https://{parts.netloc}.s3.{region}.amazonaws.com"
        return _split_host(os.environ.get("AWS_ENDPOINT_URL", usual))
    return _split_host(address)


def _split_host(address: str) -> tuple[str, int]:
    parts = urlsplit(address)
    return parts.hostname or "", parts.port or PORTS.get(parts.scheme, PORTS["https"])


def answers_at(place: tuple[str, int]) -> bool:
    """Whether a connection to a host and port can be opened."""
    try:
        with socket.create_connection(place, timeout=SECONDS_TO_CONNECT):
            return True
    except OSError:
        return False


# --- disks ----------------------------------------------------------------------------------------


def look_at_disks(config: Config) -> Iterator[Finding]:
    """Whether the folders can be written, locked, and hold what is still to come."""
    results = Path(config.paths.results)
    made = Path(config.paths.results, config.experiment)
    needed = {results: max(volumes.size_of_results(config) - measure_folder(made), 0)}
    for each in volumes.list_downloads(config):
        if not each.is_there:
            needed[each.folder] = needed.get(each.folder, 0) + each.size
    shared: dict[int, int] = {}
    for folder, size in needed.items():
        disk = _nearest(folder).stat().st_dev
        shared[disk] = shared.get(disk, 0) + size
    for folder, size in needed.items():
        everything = shared[_nearest(folder).stat().st_dev]
        yield look_at_folder(folder, needed=size, needed_on_disk=everything)


def look_at_folder(folder: Path, *, needed: int, needed_on_disk: int) -> Finding:
    """Whether a folder can be written to and its disk holds what all folders on it need."""
    existing = _nearest(folder)
    free = shutil.disk_usage(existing).free
    words = f"about {needed / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free"
    if not os.access(existing, os.W_OK):
        words = f"{existing} cannot be written to; change its permissions or paths in config.yaml"
        return Finding(f"{folder}/", words, is_missing=True)
    if free < needed_on_disk:
        words += f", and {needed_on_disk / 1e9:.1f} GB are needed on this disk in all; make room,"
        words += " or choose another folder (paths)"
        return Finding(f"{folder}/", words, is_missing=True)
    if not can_lock(existing):
        words += "; files there cannot be locked, so decoders of several processes may not start"
    return Finding(f"{folder}/", words)


def _nearest(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    folder = folder.absolute()
    return next(each for each in (folder, *folder.parents) if each.is_dir())


def can_lock(folder: Path) -> bool:
    """Whether the file system of a folder locks files."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            return exclusion.lock(file.fileno())
    except OSError:
        return False


def measure_folder(folder: Path) -> int:
    """Bytes of all files below a folder; 0 where there is none."""
    return sum(
        entry.stat().st_size
        for place, _, names in os.walk(folder)
        for entry in (Path(place, name) for name in names)
        if entry.is_file()
    )
