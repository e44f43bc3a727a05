"""How fast a session of betas becomes rows of voxels, and how little of it has to be fetched.

    python benchmarks/betas.py [--full] [--folder FOLDER] [--json FILE]

Every reading stands beside the floor (reading the same bytes plainly; for NIfTI, ``gzip -dc``) and
beside the way of Brain-Diffuser and MindEye: the whole file into memory, then a boolean mask. All
three run in turn, each in a process of its own, and ours must give the same values as theirs.
"""

import argparse
import gzip
import hashlib
import math
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow_scripts"))

import h5py
import nibabel
import numpy as np
from comparison import (
    Row,
    describe_disk,
    describe_processor,
    format_table,
    measure,
    typical,
    write_rows,
)
from range_server import Line, serve

from neuraldiffuser import storage
from neuraldiffuser.mini import recordings
from neuraldiffuser.nsd import region_betas
from neuraldiffuser.nsd.betas import read_session

BYTES_AT_ONCE = 1 << 22
NSD_HDF5, CONTIGUOUS_HDF5, NIFTI = "session.hdf5", "contiguous.hdf5", "session.nii.gz"
LINES = (
    Line("this machine", latency=0.0, bytes_per_second=math.inf),
    Line("1 Gbit/s, 30 ms", latency=0.03, bytes_per_second=125e6),
)
SESSIONS_TOGETHER = 8
THREADS = (1, 2, 4)


@dataclass(frozen=True)
class Size:
    """The volume of a subject and how often each reading is repeated."""

    shape: tuple[int, int, int]
    trials: int
    voxels: int
    repeats: int


SIZES = {
    "tiny": Size((13, 16, 11), trials=30, voxels=60, repeats=1),
    "small": Size((41, 52, 42), trials=750, voxels=2000, repeats=3),
    "full": Size((81, 104, 83), trials=750, voxels=15724, repeats=3),  # subj01 of NSD
}


@dataclass(frozen=True)
class Session:
    """One file and the voxels to read from it."""

    path: Path
    index: np.ndarray
    shape: tuple[int, int, int]

    @property
    def mask(self) -> np.ndarray:
        """The voxels as a volume."""
        return np.isin(np.arange(np.prod(self.shape)), self.index).reshape(self.shape)


# --- files ---------------------------------------------------------------------------------------


def draw_region(size: Size) -> np.ndarray:
    """Flat index of the voxels that lie nearest to a folded sheet at the back, like a cortex."""
    axes = [np.linspace(-1, 1, length) for length in size.shape]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    side = np.abs(x) - 0.38
    radius = np.sqrt((side / 0.36) ** 2 + (y / 0.85) ** 2 + (z / 0.75) ** 2)
    folds = 0.1 * np.sin(14 * np.arctan2(z, side)) * np.sin(12 * y + 1)
    distance = np.where(y < -0.25, np.abs(radius + folds - 0.85), np.inf)
    return np.sort(np.argsort(distance.ravel(), kind="stable")[: size.voxels])


def draw_volumes(size: Size) -> np.ndarray:
    """int16 (x, y, z, trials): noise of the deviation of betas inside a brain, 0 outside."""
    axes = [np.linspace(-1, 1, length) for length in size.shape]
    brain = np.flatnonzero(sum(np.meshgrid(*(axis**2 for axis in axes), indexing="ij")) < 1)
    volumes = np.zeros((int(np.prod(size.shape)), size.trials), np.int16)
    rng = np.random.default_rng(0)
    for voxels in np.array_split(brain, 1 + len(brain) // 10_000):
        noise = rng.standard_normal((len(voxels), size.trials), np.float32)
        volumes[voxels] = noise * 1.5 * recordings.UNITS_PER_PERCENT
    return volumes.reshape(*size.shape, size.trials)


def write_contiguous(path: Path, volumes: np.ndarray) -> None:
    """Writes dataset ``betas`` (trials, z, y, x) without chunks."""
    with storage.replace_atomically(path) as temporary, h5py.File(temporary, "w") as file:
        file["betas"] = volumes.transpose(3, 2, 1, 0)


def write_nifti(path: Path, volumes: np.ndarray) -> None:
    """Writes a NIfTI at the level of compression that ``gzip`` has by default."""
    with storage.replace_atomically(path) as temporary, gzip.open(temporary, "wb", 6) as file:
        nibabel.Nifti1Image(volumes, np.eye(4)).to_stream(file)


WRITERS = {
    NSD_HDF5: recordings.write_hdf5,
    CONTIGUOUS_HDF5: write_contiguous,
    NIFTI: write_nifti,
}


def make_files(folder: Path, size: Size) -> None:
    """Writes the files that the folder lacks."""
    missing = [name for name in WRITERS if not (folder / name).exists()]
    volumes = draw_volumes(size) if missing else None
    for name in missing:
        print(f"writing {folder / name}", file=sys.stderr)
        WRITERS[name](folder / name, volumes)


# --- reading: ours, the peers' way, the floor ----------------------------------------------------


def read_ours(session: Session) -> np.ndarray:
    """Rows (trials, voxels)."""
    return read_session(session.path, index=session.index, volume_shape=session.shape)


def read_whole_hdf5(session: Session) -> np.ndarray:
    """Rows (trials, voxels) by way of the whole dataset in memory."""
    with h5py.File(session.path) as file:
        volumes = file["betas"][()]
    return volumes.transpose(3, 2, 1, 0)[session.mask].T


def read_whole_nifti(session: Session) -> np.ndarray:
    """Rows (trials, voxels) by way of the whole image in memory, as float64."""
    return nibabel.load(session.path).get_fdata()[session.mask].T


def read_plainly(session: Session) -> None:
    """Every byte of the file, and nothing done with it."""
    buffer = bytearray(BYTES_AT_ONCE)
    with session.path.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def decompress(session: Session) -> None:
    """``gzip -dc``, thrown away."""
    subprocess.run(["gzip", "-dc", session.path], stdout=subprocess.DEVNULL, check=True)


def forget(session: Session) -> None:
    """Drops the file from the kernel's page cache: a cold read."""
    with session.path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def digest(rows: np.ndarray) -> str:
    """Tells rows of different values apart, whatever their type."""
    return hashlib.sha256(np.ascontiguousarray(rows.astype(np.int16))).hexdigest()


@dataclass(frozen=True)
class Case:
    """A file in one state of the cache, the peers' way to read it, and the floor."""

    name: str
    file: str
    before: Callable[[Session], None]
    peer: Callable[[Session], np.ndarray]
    floor: Callable[[Session], None]


CASES = (
    Case("HDF5 in NSD's layout, cold", NSD_HDF5, forget, read_whole_hdf5, read_plainly),
    Case("HDF5 in NSD's layout, warm", NSD_HDF5, read_plainly, read_whole_hdf5, read_plainly),
    Case("contiguous HDF5, cold", CONTIGUOUS_HDF5, forget, read_whole_hdf5, read_plainly),
    Case("contiguous HDF5, warm", CONTIGUOUS_HDF5, read_plainly, read_whole_hdf5, read_plainly),
    Case("NIfTI, warm", NIFTI, read_plainly, read_whole_nifti, decompress),
)


def compare(case: Case, session: Session, *, repeats: int) -> list[Row]:
    """Measures the floor, ours and the peers' way in turn; the last two must agree."""
    found = []
    for _ in range(repeats):
        floor = measure(case.floor, session, before=case.before)
        ours = measure(read_ours, session, before=case.before, after=digest)
        peer = measure(case.peer, session, before=case.before, after=digest)
        found.append((floor, ours, peer))
    floor, ours, peer = map(typical, zip(*found, strict=True))
    assert ours.result == peer.result, f"{case.name}: values differ"
    return [
        Row(f"{case.name}: read", ours.seconds, "s", peer.seconds, floor.seconds),
        Row(f"{case.name}: peak memory", ours.peak_gigabytes, "GB", peer.peak_gigabytes),
    ]


# --- fetching ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fetch:
    """A session behind an address, and the folder that it goes to."""

    address: str
    folder: Path
    session: Session


def fetch_region(fetch: Fetch) -> Session:
    """The region alone."""
    session = replace(fetch.session, path=fetch.folder / "session.nsdgeneral.hdf5")
    voxels = {"index": session.index, "volume_shape": session.shape}
    region_betas.fetch_region(fetch.address, session.path, **voxels)
    return session


def fetch_whole(fetch: Fetch) -> Session:
    """The whole file over one connection."""
    session = replace(fetch.session, path=fetch.folder / "session.hdf5")
    with urllib.request.urlopen(fetch.address) as answer, session.path.open("wb") as file:
        shutil.copyfileobj(answer, file, BYTES_AT_ONCE)
    return session


def digest_of_file(session: Session) -> str:
    """The digest of a session's rows."""
    return digest(read_ours(session))


@dataclass(frozen=True)
class Fetched:
    """One way to fetch a session: how long it takes and what it moves."""

    seconds: float
    requests: int
    bytes: int
    digest: str


def measure_fetch(way: Callable[[Fetch], Session], session: Session, *, line: Line) -> Fetched:
    """Fetches a session from a server on this machine."""
    with (
        tempfile.TemporaryDirectory(dir=session.path.parent) as folder,
        serve(session.path.parent, line) as (address, traffic),
    ):
        fetch = Fetch(f"{address}/{session.path.name}", Path(folder), session)
        found = measure(way, fetch, after=digest_of_file)
        return Fetched(found.seconds, traffic.requests, traffic.bytes, found.result)


def compare_fetches(session: Session, *, line: Line) -> list[Row]:
    """The region against the whole file; both must hold the same rows."""
    ours = measure_fetch(fetch_region, session, line=line)
    whole = measure_fetch(fetch_whole, session, line=line)
    assert ours.digest == whole.digest, "fetched values differ"
    name = f"nsd.fetch roi, {line.name}"
    return [
        Row(f"{name}: fetch", ours.seconds, "s", whole.seconds),
        Row(f"{name}: moved", ours.bytes / 1e6, "MB", whole.bytes / 1e6),
        Row(f"{name}: requests", ours.requests, "", whole.requests),
    ]


# --- several sessions at once --------------------------------------------------------------------


@dataclass(frozen=True)
class Together:
    """A session that is read several times, by a number of threads."""

    session: Session
    threads: int


def read_together(together: Together) -> None:
    """As the voxels of a subject are prepared: one session per thread."""
    with ThreadPoolExecutor(together.threads) as pool:
        list(pool.map(read_ours, [together.session] * SESSIONS_TOGETHER))


def warm(together: Together) -> None:
    """Brings the file into the page cache."""
    read_plainly(together.session)


def compare_threads(session: Session, *, repeats: int) -> list[Row]:
    """Several sessions by 1, 2 and 4 threads; the floor is an even share of one thread's time."""
    seconds = {
        threads: typical(
            measure(read_together, Together(session, threads), before=warm) for _ in range(repeats)
        ).seconds
        for threads in THREADS
    }
    return [
        Row(
            f"{SESSIONS_TOGETHER} x {session.path.name}, {threads} at once: read",
            taken,
            "s",
            floor=seconds[1] / min(threads, os.cpu_count()),
        )
        for threads, taken in seconds.items()
    ]


# --- all of it -----------------------------------------------------------------------------------


def describe_set_up(sessions: dict[str, Session], size: Size, device: str) -> str:
    """What is measured where, and how cold the cold reads are."""
    session = sessions[NSD_HDF5]
    cold = measure(read_plainly, session, before=forget).seconds
    warm = measure(read_plainly, session, before=read_plainly).seconds
    paths = [each.path for each in sessions.values()]
    sizes = ", ".join(f"{path.name} {path.stat().st_size / 1e6:,.0f} MB" for path in paths)
    return "\n".join(
        [
            f"{device}.",
            f"A session of {' x '.join(map(str, size.shape))} voxels and {size.trials} trials, of "
            f"which {size.voxels:,} voxels are read: {sizes}.",
            "Cold: after fsync and POSIX_FADV_DONTNEED, so from the disk and whatever caches lie "
            f"behind it; a plain read took {cold:.2f} s cold and {warm:.2f} s warm.",
            f"Medians of {size.repeats}, each in a process of its own, ours and the others in "
            "turn; memory is the whole process at its peak.",
        ]
    )


def compare_all(sessions: dict[str, Session], size: Size) -> Iterator[Row]:
    """Every row of the benchmark."""
    for case in CASES:
        yield from compare(case, sessions[case.file], repeats=size.repeats)
    for line in LINES:
        yield from compare_fetches(sessions[NSD_HDF5], line=line)
    for name in (NSD_HDF5, NIFTI):
        yield from compare_threads(sessions[name], repeats=size.repeats)


def run(size: Size, *, folder: Path, path_to_json: Path | None) -> None:
    """Makes the files, measures, prints the table."""
    folder.mkdir(parents=True, exist_ok=True)
    measure(partial(make_files, folder), size)  # in a process of its own, for its memory
    index = draw_region(size)
    sessions = {name: Session(folder / name, index, size.shape) for name in WRITERS}
    device = f"{describe_processor()}, disk {describe_disk(folder)}"
    print(describe_set_up(sessions, size, device), end="\n\n", flush=True)
    rows = list(compare_all(sessions, size))
    print(format_table(rows))
    if path_to_json:
        write_rows(path_to_json, rows, device=device)


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument(
        "--full", dest="size", action="store_const", const="full", help="a session of NSD's size"
    )
    parser.add_argument(
        "--folder", type=Path, help="where the files go and stay (3.3 GB with --full)"
    )
    parser.add_argument("--json", type=Path, help="where the rows go")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.folder or Path(temporary)) / options.size
        run(SIZES[options.size], folder=folder, path_to_json=options.json)


if __name__ == "__main__":
    main()
