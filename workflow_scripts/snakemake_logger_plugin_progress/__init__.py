"""Snakemake logger ``progress``: which stage, how far, how long still, one line per job.

``snakemake --logger progress``. The time left comes from the seconds that each rule took when the
miniature was last measured (resources/rates.json): they are weights, scaled by the pace of the run
itself, so they need not be right for the machine at hand.
"""

import json
import sys
import time
from collections import Counter
from logging import LogRecord
from pathlib import Path

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

RATES = Path(__file__).parents[2] / "resources" / "rates.json"
SECONDS_OF_AN_UNKNOWN_RULE = 5.0


def in_words(seconds: float) -> str:
    """Seconds as a person says them: "40 s", "3 min 20 s", "2 h 5 min"."""
    seconds = round(seconds)
    hours, minutes = seconds // 3600, seconds % 3600 // 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds % 60:02d} s" if minutes else f"{seconds} s"


def read_seconds(path: Path) -> dict[str, float]:
    """Mean seconds of each rule's jobs, as far as they were measured."""
    rates = json.loads(path.read_text()) if path.is_file() else []
    jobs, seconds = Counter(), Counter()
    for rate in rates:
        if rate["jobs"]:
            jobs[rate["stage"]] += rate["jobs"]
            seconds[rate["stage"]] += rate["seconds"]
    return {stage: seconds[stage] / jobs[stage] for stage in jobs}


class Pace:
    """Estimates the time left from the weights of the jobs that are done and still to do."""

    def __init__(self, jobs_per_rule: dict[str, int], seconds_of: dict[str, float]) -> None:
        """Starts the clock for a run of the given number of jobs per rule."""
        self.seconds_of = seconds_of
        self.jobs = sum(jobs_per_rule.values())
        self.total = sum(count * self.weight(rule) for rule, count in jobs_per_rule.items())
        self.jobs_done = 0
        self.done = 0.0
        self.started = time.monotonic()

    def weight(self, rule: str) -> float:
        """Seconds that one job of a rule took when last measured."""
        return self.seconds_of.get(rule, SECONDS_OF_AN_UNKNOWN_RULE)

    def finish(self, rule: str) -> str:
        """Counts one finished job; returns the line to print."""
        self.jobs_done += 1
        self.done += self.weight(rule)
        elapsed = time.monotonic() - self.started
        left = elapsed * (self.total - self.done) / self.done
        return (
            f"[{self.done / self.total:4.0%}] {self.jobs_done} of {self.jobs} jobs, "
            f"{in_words(elapsed)} so far, about {in_words(left)} left"
        )


class LogHandler(LogHandlerBase):
    """Prints job starts, the pace after each finished job, errors, and nothing else."""

    def __post_init__(self) -> None:
        """Reads the measured seconds; no run has begun yet."""
        self.seconds_of = read_seconds(RATES)
        self.pace: Pace | None = None
        self.rules: dict[int, str] = {}
        self.printers = {
            LogEvent.RUN_INFO: self._begin,
            LogEvent.JOB_INFO: self._start_job,
            LogEvent.JOB_FINISHED: self._finish_job,
            LogEvent.JOB_ERROR: self._fail_job,
            LogEvent.ERROR: self._print_message,
        }

    def emit(self, record: LogRecord) -> None:
        """Prints what a record means to a person following the run."""
        event = getattr(record, "event", None)
        if event in self.printers:
            self.printers[event](record)
        elif event is None and self._matters(record):
            self._print_message(record)

    def _matters(self, record: LogRecord) -> bool:
        return record.levelname in ("WARNING", "ERROR") or "Nothing to be done" in str(record.msg)

    def _begin(self, record: LogRecord) -> None:
        counts = Counter(record.stats)
        total = counts.pop("total", sum(counts.values()))
        self.pace = Pace(counts, self.seconds_of)
        self._print(f"{total} jobs to run")

    def _start_job(self, record: LogRecord) -> None:
        self.rules[record.jobid] = record.rule_name
        self._print(f"  {record.rule_name} · {record.rule_msg or record.wildcards}")

    def _finish_job(self, record: LogRecord) -> None:
        if self.pace:
            self._print(self.pace.finish(self.rules.get(record.job_id, "")))

    def _fail_job(self, record: LogRecord) -> None:
        logs = ", ".join(record.log) or "no log"
        self._print(f"failed: {record.rule_name} {record.rule_msg or ''}; its log: {logs}")

    def _print_message(self, record: LogRecord) -> None:
        self._print(record.getMessage())

    @staticmethod
    def _print(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    @property
    def writes_to_stream(self) -> bool:
        """It replaces Snakemake's own output on the screen."""
        return True

    @property
    def writes_to_file(self) -> bool:
        """Snakemake's own log file stays as it is."""
        return False

    @property
    def has_filter(self) -> bool:
        """It chooses what to print by event."""
        return True

    @property
    def has_formatter(self) -> bool:
        """It words its own lines."""
        return True

    @property
    def needs_rulegraph(self) -> bool:
        """The counts per rule are enough."""
        return False
