"""Which code, software and devices stand behind a set of files, read from their sidecars."""

import hashlib
from collections import deque
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from neuraldiffuser import storage
from neuraldiffuser.identity import canonical_json
from neuraldiffuser.provenance import sidecar_path

SHORT = 12  # characters of a digest over a stage's modules


def trace_sidecars(paths: Iterable[Path]) -> list[dict]:
    """The sidecars of files and of everything they were made from, each once, by path."""
    waiting, found = deque(map(Path, paths)), {}
    while waiting:
        path = waiting.popleft()
        sidecar = sidecar_path(path)
        if path not in found and sidecar.is_file():
            found[path] = storage.read_json(sidecar)
            waiting.extend(Path(name) for name, _ in found[path]["inputs"])
    return [found[path] for path in sorted(found)]


def list_stages(sidecars: Iterable[dict]) -> pd.DataFrame:
    """One row per stage: how many files, on which devices, by which code."""
    rows = [
        {"stage": s["stage"], "device": s["device"], "code": _shorten(s["code"])} for s in sidecars
    ]
    if not rows:
        return pd.DataFrame(columns=["stage", "files", "device", "code"])
    grouped = pd.DataFrame(rows).groupby("stage", sort=True)
    return grouped.agg(
        files=("code", "size"), device=("device", _join_unique), code=("code", _join_unique)
    ).reset_index()


def _shorten(code: Mapping[str, str] | str) -> str:
    """One digest over all modules; a stage whose files depend on no code says so in words."""
    if isinstance(code, str):
        return code
    return hashlib.sha256(canonical_json(code).encode()).hexdigest()[:SHORT]


def tell_total(sidecars: Iterable[dict]) -> str:
    """How long all jobs of all stages took."""
    return list_costs(sidecars)["time"].iloc[-1]


def list_costs(sidecars: Iterable[dict]) -> pd.DataFrame:
    """One row per stage: how many jobs, how long all of them took, on which devices.

    A job that made several files counts once.
    """
    told = ("stage", "code", "seconds", "inputs")
    jobs = {canonical_json([s[name] for name in told]): s for s in sidecars}
    rows = [(s["stage"], s["seconds"], s["device"]) for s in jobs.values()]
    table = pd.DataFrame(rows, columns=["stage", "seconds", "device"])
    grouped = table.groupby("stage", sort=True)
    shown = grouped.agg(
        jobs=("seconds", "size"), time=("seconds", "sum"), device=("device", _join_unique)
    ).reset_index()
    total = pd.DataFrame([("all", len(table), table["seconds"].sum(), "")], columns=shown.columns)
    costs = pd.concat([shown.sort_values("time", ascending=False), total], ignore_index=True)
    return costs.assign(time=costs["time"].map(_write_duration))


def _write_duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def list_software(sidecars: Iterable[dict]) -> pd.DataFrame:
    """Versions of the software that made the files: package, version (all that occur)."""
    rows = [(name, version) for s in sidecars for name, version in s["software"].items()]
    table = pd.DataFrame(rows, columns=["package", "version"])
    return table.groupby("package", sort=True)["version"].agg(_join_unique).reset_index()


def _join_unique(values: pd.Series) -> str:
    return ", ".join(sorted(set(values)))
