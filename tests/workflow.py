"""Runs the real Snakefile on a world of a test's own, in a folder of its own."""

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import yaml

REPOSITORY = Path(__file__).parents[1]
CORRECTED = REPOSITORY / "config/fidelity/corrected.yaml"
MINIATURE = REPOSITORY / "config/mini.yaml"
TINY = REPOSITORY / "tests/tiny_world.yaml"
SMALLEST = REPOSITORY / "tests/smallest_world.yaml"


@dataclass(frozen=True)
class Answer:
    """What a run of Snakemake said and how it ended."""

    succeeded: bool
    text: str

    @property
    def rules_to_run(self) -> set[str]:
        """Names of the rules that a dry run would start, from its table of jobs."""
        return set(re.findall(r"^(\w+) +\d+$", self.text, re.MULTILINE)) - {"all", "total"}


@dataclass(frozen=True)
class World:
    """A folder in which the workflow runs with given overlays of the configuration.

    Folders in ``library`` come first where Snakemake and its jobs look for modules; ``profile`` is
    one of the repository's, ``options`` are what it leaves open, ``snakefile`` is what runs.
    """

    folder: Path
    overlays: tuple[Path, ...] = (CORRECTED, MINIATURE, TINY)
    library: tuple[Path, ...] = ()
    profile: str = "default"
    options: tuple[str, ...] = ("--cores", "2")
    snakefile: Path = REPOSITORY / "Snakefile"

    def snakemake(self, *arguments: str, changes: dict | None = None) -> Answer:
        """Runs Snakemake with this world's configuration, plus some changed keys."""
        run = self.start(*arguments, changes=changes)
        text, _ = run.communicate()
        return Answer(run.returncode == 0, text)

    def start(
        self,
        *arguments: str,
        changes: dict | None = None,
        output: int | TextIO = subprocess.PIPE,
    ) -> subprocess.Popen:
        """The same, but does not wait for its end; what it says goes to ``output``."""
        command = [
            sys.executable,
            "-m",
            "snakemake",
            *arguments,
            "--snakefile",
            str(self.snakefile),
            "--workflow-profile",
            str(REPOSITORY / "profiles" / self.profile),
            "--directory",
            str(self.folder),
            *self.options,
            "--nocolor",
            "--configfile",
            *(str(path) for path in self._overlays(changes or {})),
        ]
        return subprocess.Popen(
            command, env=self._environment, stdout=output, stderr=subprocess.STDOUT, text=True
        )

    def dry_run(self, *arguments: str, changes: dict | None = None) -> Answer:
        """What would run."""
        return self.snakemake(*arguments, "--dry-run", changes=changes)

    def ask(self, question: str) -> Answer:
        """What ``neuraldiffuser`` answers: verify, for one."""
        command = [sys.executable, "-m", "neuraldiffuser", question]
        command += ["--configfile", *map(str, self._overlays({}))]
        asked = subprocess.run(
            command, env=self._environment, cwd=self.folder, capture_output=True, text=True
        )
        return Answer(asked.returncode == 0, asked.stdout + asked.stderr)

    @property
    def _environment(self) -> dict[str, str]:
        library = [*self.library, REPOSITORY / "workflow_scripts"]
        return os.environ | {"PYTHONPATH": ":".join(map(str, library))}

    def _overlays(self, changes: dict) -> Sequence[Path]:
        """The world's overlays; then where this repository's models lie; then the changes."""
        added = self.folder / "overlays"
        added.mkdir(parents=True, exist_ok=True)
        place = added / "place.yaml"
        place.write_text(
            yaml.safe_dump({"paths": {"models": str(REPOSITORY / "resources/mini_models")}})
        )
        changed = added / "changes.yaml"
        changed.write_text(yaml.safe_dump(changes))
        return [*self.overlays, place, changed]
