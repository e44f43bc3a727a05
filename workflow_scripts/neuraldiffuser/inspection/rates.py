"""Seconds per unit of work: measured by runs, published by others, or assumed, and labelled so.

``resources/rates.json`` holds what is known beforehand. At the end of a run its sidecars update
``rates.json`` in the folder of all results, which comes first wherever this machine measured it.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from neuraldiffuser import machine, provenance, storage
from neuraldiffuser.config.root import Config
from neuraldiffuser.inspection.work import Wildcards, Work, measure_work

KNOWN = provenance.REPOSITORY / "resources" / "rates.json"
ORIGINS = ("measured", "published", "assumed")  # the most trustworthy first
Device = Literal["cpu", "cuda"]


@dataclass(frozen=True)
class Rate:
    """What work of one kind took.

    Attributes:
        stage: whose work it was.
        networks: which networks did it.
        device: "cpu" or "cuda".
        machine: on which it was measured; of an assumed one, what the assumption rests on.
        origin: one of ``ORIGINS``.
        jobs: how many jobs it is the mean of; 0 if it was not taken from jobs.
        unit: of the work.
        amount: units of all those jobs together.
        seconds: that they took, one after another, models loaded included.
    """

    stage: str
    networks: str
    device: Device
    machine: str
    origin: Literal["measured", "published", "assumed"]
    jobs: int
    unit: str
    amount: float
    seconds: float

    @property
    def seconds_per_unit(self) -> float:
        """What the work is multiplied by."""
        return self.seconds / self.amount

    @property
    def kind(self) -> tuple[str, str, str, str]:
        """Of which there is one rate only, the last that was measured."""
        return self.stage, self.networks, self.device, self.machine


def read_rates(path: Path) -> list[Rate]:
    """The rates of a file; none if it is not there."""
    return [Rate(**each) for each in storage.read_json(path)] if path.is_file() else []


def write_rates(path: Path, rates: Iterable[Rate]) -> None:
    """Writes rates, in an order of their own."""
    storage.write_json(path, [asdict(rate) for rate in sorted(rates, key=lambda each: each.kind)])


def place_of_rates(config: Config) -> Path:
    """Where runs into the same folder of results leave what they measured."""
    return Path(config.paths.results, "rates.json")


def list_known(config: Config) -> list[Rate]:
    """What is known beforehand, and what runs here measured since."""
    return update(read_rates(KNOWN), read_rates(place_of_rates(config)))


def update(rates: Iterable[Rate], measured: Iterable[Rate]) -> list[Rate]:
    """Rates with newer ones in place of those of the same kind."""
    return list({rate.kind: rate for rate in [*rates, *measured]}.values())


# --- measuring ------------------------------------------------------------------------------------


def learn(jobs: Iterable[tuple[str, Wildcards, Sequence[Path]]], config: Config) -> list[Rate]:
    """What finished jobs took, by the sidecars of what they made.

    Args:
        jobs: stage, wildcards and outputs of each; a job without a sidecar is left out.
        config: under which they ran.
    """
    found: dict[tuple, list[tuple[Work, float]]] = defaultdict(list)
    for stage, wildcards, outputs in jobs:
        sidecar = _read_sidecar(outputs)
        if sidecar is not None:
            work = measure_work(stage, config, wildcards)
            where = sidecar.get("machine", "unknown machine")
            kind = (stage, work.networks, sidecar["device"], where)
            found[kind].append((work, sidecar["seconds"]))
    return [_average(kind, taken) for kind, taken in found.items()]


def _read_sidecar(outputs: Iterable[Path]) -> Mapping[str, Any] | None:
    sidecars = map(provenance.read_sidecar, outputs)
    return next((sidecar for sidecar in sidecars if sidecar is not None), None)


def _average(kind: tuple, taken: Sequence[tuple[Work, float]]) -> Rate:
    stage, networks, device, where = kind
    return Rate(
        stage=stage,
        networks=networks,
        device=device,
        machine=where,
        origin="measured",
        jobs=len(taken),
        unit=taken[0][0].unit,
        amount=round(sum(work.amount for work, _ in taken), 3),
        seconds=round(sum(seconds for _, seconds in taken), 3),
    )


def keep_rates(jobs: Iterable[tuple[str, Wildcards, Sequence[Path]]], config: Config) -> None:
    """Adds what a run's jobs took to what is kept beside the results."""
    path = place_of_rates(config)
    write_rates(path, update(read_rates(path), learn(jobs, config)))


# --- choosing -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Estimate:
    """Seconds that a job will take, and how far to trust them."""

    seconds: float
    label: str


def estimate(stage: str, work: Work, rates: Iterable[Rate], *, device: Device) -> Estimate | None:
    """How long work takes by the rate that fits it best; None if no rate fits.

    What was measured on this machine comes before what was measured elsewhere, published, assumed.
    """
    here = machine.describe_device(device)
    of_stage = [rate for rate in rates if rate.stage == stage and rate.unit == work.unit]
    fitting = [
        rate for rate in of_stage if rate.networks == work.networks and rate.device == device
    ]
    if fitting:
        best = min(fitting, key=lambda rate: (ORIGINS.index(rate.origin), rate.machine != here))
        return Estimate(work.amount * best.seconds_per_unit, _label(best, here))
    # ASSUME: large networks take on a GPU what the miniature's small ones take on a CPU's core.
    smaller = [rate for rate in of_stage if rate.device == "cpu" and rate.jobs]
    if device == "cuda" and smaller:
        seconds = sum(rate.seconds for rate in smaller) / sum(rate.amount for rate in smaller)
        return Estimate(work.amount * seconds, "assumed: as small networks on a CPU")
    return None


def _label(rate: Rate, here: str) -> str:
    if rate.origin == "assumed":
        return f"assumed: {rate.machine}"
    return f"{rate.origin} {'here' if rate.machine == here else f'on {rate.machine}'}"
