"""What every job shares: its log, its device and threads, progress lines, its provenance."""

import errno
import logging
import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

from neuraldiffuser import devices, exclusion, provenance
from neuraldiffuser.config import stages
from neuraldiffuser.errors import ConfigError, NeuralDiffuserError

Item = TypeVar("Item")
SECONDS_BETWEEN_PROGRESS_LINES = 5.0
BYTES_PER_READ = 1 << 24

# Read on import by the libraries of Hugging Face, which scripts import after this module. Jobs
# report their own progress, bars of loading weights would only hide it; nobody else hears of them.
os.environ |= {
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DISABLE_TELEMETRY": "1",
}
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}

logger = logging.getLogger("neuraldiffuser")


@dataclass(frozen=True)
class Execution:
    """Where and how a job computes; never a reason for another result.

    Attributes:
        device: "cpu" or "cuda".
        threads: CPU threads of each of its processes.
        processes: how many work together, each on a device of its own.
        gpu_memory_gb: GiB of a GPU that it may plan for; 0 for all that is free.
        deadline: of its time limit on ``time.monotonic``; None without a limit.
        label: the job's name.
        code: identity of the code that it runs.
        log: its log file; None outside a job.
    """

    device: str = "cpu"
    threads: int = 1
    processes: int = 1
    gpu_memory_gb: int = 0
    deadline: float | None = None
    label: str = ""
    code: str = ""
    log: str | None = None


_execution = Execution()
_measured: dict[str, Any] = {}


def execution() -> Execution:
    """The running job's device and threads (one CPU thread outside a job)."""
    return _execution


def record(**facts: Any) -> None:
    """Has what only a run can tell stand under "measured" beside the artefacts of its job."""
    _measured.update(facts)


def seconds_left() -> float:
    """Until the job's deadline; infinite without one."""
    return float("inf") if _execution.deadline is None else _execution.deadline - time.monotonic()


@contextmanager
def stopping_when_told() -> Iterator[None]:
    """Inside, SIGTERM only moves the deadline to now: who looks at it keeps what it has and stops.

    A scheduler sends it some seconds before it kills a job that it cancels, preempts or times out.
    """

    def stop(_signal: int, _frame: Any) -> None:
        global _execution
        _execution = replace(_execution, deadline=time.monotonic())

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _Lines:
    """A file for tqdm that writes each update as a line of its own, so that jobs can share it."""

    def write(self, text: str) -> None:
        line = text.strip("\r\n ")
        if line:
            logger.info("%s", line)

    def flush(self) -> None:
        """Each line is written at once."""


def progress(
    iterable: Iterable[Item] | None = None,
    *,
    total: int | None = None,
    initial: int = 0,
    description: str,
    unit: str = "it",
    scale: bool = False,
) -> tqdm:
    """A tqdm bar that reports, every few seconds, one line: how far, how fast, how long still.

    Args:
        iterable: what to walk over; without one, call ``update`` on the returned bar.
        total: number of items, where ``iterable`` has no length.
        initial: how many of them were there before; they do not count towards the rate.
        description: what is being done, in words.
        unit: name of one item; "B" for bytes.
        scale: write large counts as k, M, G.
    """
    return tqdm(
        iterable,
        total=total,
        initial=initial,
        desc=f"{description}:",
        unit=unit,
        unit_scale=scale,
        file=_Lines(),
        mininterval=SECONDS_BETWEEN_PROGRESS_LINES,
        maxinterval=SECONDS_BETWEEN_PROGRESS_LINES,
        delay=SECONDS_BETWEEN_PROGRESS_LINES,
        leave=False,
        bar_format="{desc} {percentage:.0f}% ({n_fmt} of {total_fmt}), {rate_fmt}, "
        "{remaining} left",
    )


def read_blocks(path: Path, *, description: str) -> Iterator[memoryview]:
    """A file's bytes, block by block, with a progress bar; a block lasts until the next one."""
    buffer = memoryview(bytearray(BYTES_PER_READ))
    size = path.stat().st_size
    bar = progress(total=size, description=description, unit="B", scale=True)
    with path.open("rb", buffering=0) as file, bar:
        while length := file.readinto(buffer):
            yield buffer[:length]
            bar.update(length)


@contextmanager
def job(snakemake: Any) -> Iterator[dict[str, Any]]:
    """Surrounds a script's work: log file, threads and device, errors, provenance sidecars.

    Args:
        snakemake: the object that Snakemake hands to a script, with ``params.settings`` (canonical
            JSON of the keys the stage reads) and ``params.code`` (what identifies its code).

    Yields:
        The stage's settings as keyword arguments for the script's function.
    """
    stage = snakemake.rule
    exclusion.follow()
    exclusion.lead()
    if not stage.startswith("fetch_"):
        os.environ.update(OFFLINE)
    execution = _choose_execution(snakemake)
    outputs = [Path(path) for path in snakemake.output]
    log = Path(execution.log)
    log.parent.mkdir(parents=True, exist_ok=True)
    _start(execution)
    # A job has one log, and a log one job: its lock is the job's.
    with _told_in_one_sentence(stage, outputs), exclusion.alone(log):
        log.write_bytes(b"")
        _measured.clear()
        started = time.monotonic()
        _claim_devices(execution, snakemake.resources)
        yield stages.parse_settings(stage, snakemake.params.settings)
        provenance.write_sidecars(
            outputs=outputs,
            inputs=[Path(path) for path in snakemake.input],
            stage=stage,
            **provenance.read_parameters(snakemake.params),
            device=_execution.device,
            seconds=time.monotonic() - started,
            measured=_measured,
        )


@contextmanager
def _told_in_one_sentence(stage: str, outputs: Sequence[Path]) -> Iterator[None]:
    """Ends the job with what went wrong in the log; with how, too, where no person caused it."""
    try:
        yield
    except NeuralDiffuserError as error:
        logger.error("%s", error)
        sys.exit(1)
    except Exception as error:
        if _lacks_space(error):
            logger.error(
                "No space is left for %s; make room there and run the same command again.",
                outputs[0].parent,
            )
            sys.exit(1)
        logger.exception("unexpected error in %s", stage)
        raise


def _lacks_space(error: BaseException) -> bool:
    """Whether a full disk or quota is behind an error; libraries pass the reason on as words."""
    return any(os.strerror(code) in str(error) for code in (errno.ENOSPC, errno.EDQUOT))


def _label(stage: str, wildcards: Any) -> str:
    return " ".join([stage, *(str(value) for value in wildcards)])


def join(execution: Execution, *, quiet: bool) -> None:
    """Makes a new process one of a running job's; a quiet one reports warnings and errors only."""
    exclusion.follow()
    _start(execution)
    if quiet:
        logger.setLevel(logging.WARNING)


def _start(execution: Execution) -> None:
    """Makes ``execution`` this process's own: its log, its threads."""
    global _execution
    _execution = execution
    _open_log(execution)
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(execution.threads)


def _open_log(execution: Execution) -> None:
    """Everything goes to the log file, after what other processes wrote; some to the screen."""
    to_file = logging.FileHandler(execution.log, mode="a", encoding="utf-8")
    to_file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    to_screen = logging.StreamHandler(sys.stderr)
    to_screen.setFormatter(logging.Formatter(f"  {execution.label} · %(message)s"))
    to_screen.setLevel(logging.INFO)
    logger.handlers = [to_file, to_screen]
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    logging.raiseExceptions = False  # a full disk takes no more lines; the screen still tells
    logging.captureWarnings(True)
    logging.getLogger("py.warnings").handlers = [to_file]


def _choose_execution(snakemake: Any) -> Execution:
    """What a job's rule grants it; threads and time are shared by all of its processes."""
    resources = snakemake.resources
    wants_gpu = bool(resources.get("gpu", 0))
    processes = int(resources.get("processes", 1))
    minutes = resources.get("runtime")
    return Execution(
        device="cuda" if wants_gpu and "torch" in sys.modules else "cpu",
        threads=max(int(snakemake.threads) // processes, 1),
        processes=processes,
        gpu_memory_gb=int(resources.get("gpu_memory_gb", 0)),
        deadline=time.monotonic() + 60 * minutes if minutes else None,
        label=_label(snakemake.rule, snakemake.wildcards),
        code=snakemake.params.code,
        log=str(snakemake.log[0]),
    )


def _claim_devices(execution: Execution, resources: Any) -> None:
    """Takes the GPUs that a job was granted before torch looks for any.

    Raises:
        ConfigError: torch sees none, or there are too few.
    """
    if execution.device == "cpu":
        return
    devices.claim(int(resources["gpu"]))
    if not sys.modules["torch"].cuda.is_available():
        raise ConfigError(
            "This job was granted a GPU, but torch sees none; mend the driver, or the partition "
            "that jobs are sent to, or set runtime.device to cpu."
        )
