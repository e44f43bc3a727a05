"""Writes resources/rule_seconds.json from the benchmark files of a finished experiment.

``python benchmarks/rule_seconds.py results/mini``: mean seconds per rule, the weights with which
``snakemake --logger progress`` estimates the time left.
"""

import json
import sys
from pathlib import Path
from statistics import mean

from neuraldiffuser import storage

RULE_SECONDS = Path(__file__).parents[1] / "resources" / "rule_seconds.json"


def seconds_per_rule(path_to_results: Path) -> dict[str, float]:
    """Mean wall-clock seconds of each rule's jobs."""
    folders = sorted((path_to_results / "benchmarks").iterdir())
    return {folder.name: round(mean(seconds_of(folder)), 1) for folder in folders}


def seconds_of(folder: Path) -> list[float]:
    """Seconds of every job of one rule."""
    files = folder.rglob("*.jsonl")
    return [json.loads(line)["s"] for file in files for line in file.read_text().splitlines()]


if __name__ == "__main__":
    storage.write_json(RULE_SECONDS, seconds_per_rule(Path(sys.argv[1])))
