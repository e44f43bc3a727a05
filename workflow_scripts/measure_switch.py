"""Measures what one switch of docs/fidelity.md does: this experiment once more, one key changed.

In: a finished experiment. Its results are copied to a folder of their own, where Snakemake itself
reruns exactly what the key touches. Out: paired differences to the experiment as it is.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from neuraldiffuser import runtime, storage
from neuraldiffuser.config.base import lookup, merge, nest
from neuraldiffuser.config.evaluation import BootstrapSettings
from neuraldiffuser.config.fidelity import find_switch, list_variants
from neuraldiffuser.config.root import Config
from neuraldiffuser.config.validation import validate
from neuraldiffuser.errors import DataError
from neuraldiffuser.evaluation.switches import compare_worlds, read_world

TABLES = ("images.csv", "brain.csv")


def measure_switch(
    *,
    key: str,
    measured: Sequence[str],
    path_to_effect: Path,
    configuration: Mapping[str, Any],
    cores: int,
    repository: Path,
    bootstrap: BootstrapSettings,
) -> None:
    """Writes the effect of the other value of one key.

    Args:
        key: of a switch in ``SWITCHES``.
        measured: files of this experiment that are compared, relative to the working folder.
        path_to_effect: the numbers and the words go there.
        configuration: of this experiment.
        cores: of the run inside.
        repository: where the Snakefile lies.
        bootstrap: draws, level and seed.

    Raises:
        DataError: the experiment does not run with the other value.
    """
    started = time.monotonic()
    config = validate(configuration)
    overlay = nest(key, find_switch(key).other_than(lookup(config, key)))
    changed = validate(merge(configuration, overlay))
    results = Path(config.paths.results) / config.experiment
    folder = path_to_effect.parent.resolve()
    with tempfile.TemporaryDirectory(dir=folder, prefix="world-") as world:
        copy_world(Path(world), config, results=results, apart=folder.name)
        files = write_overlays(Path(world), configuration, overlay)
        run_inside(Path(world), files, measured, cores=cores, repository=repository)
        tables = [Path(path) for path in measured if Path(path).name in TABLES]
        inside = [Path(world) / path for path in tables]
        values = read_world(Path(world) / results, inside, changed)
    differences = compare_worlds(values, read_world(results, tables, config), bootstrap)
    storage.write_json(
        path_to_effect,
        {
            "key": key,
            "value": lookup(changed.model_dump(mode="json"), key),
            "instead_of": lookup(config.model_dump(mode="json"), key),
            "variant": list_variants(key)[0],
            "level": bootstrap.level,
            "minutes": round((time.monotonic() - started) / 60, 1),
            "differences": differences.to_dict("records"),
        },
    )


def copy_world(world: Path, config: Config, *, results: Path, apart: str) -> None:
    """Copies results with what tells how they were made; what is only read is linked."""
    shutil.copytree(results, world / results, ignore=shutil.ignore_patterns(apart))
    for name in {config.paths.data, config.paths.models, config.mini.bucket}:
        source = Path(name)
        if not source.is_absolute() and source.exists():
            (world / source).parent.mkdir(parents=True, exist_ok=True)
            (world / source).symlink_to(source.resolve())


def write_overlays(world: Path, *contents: Mapping[str, Any]) -> list[Path]:
    """Configuration files, the later ones over the earlier."""
    paths = [world / f"configuration-{number}.yaml" for number in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return paths


def run_inside(
    world: Path,
    configfiles: Sequence[Path],
    targets: Sequence[str],
    *,
    cores: int,
    repository: Path,
) -> None:
    """Runs the workflow in ``world`` until ``targets`` are made."""
    profile = repository / "profiles/default"
    command = [sys.executable, "-m", "snakemake", *targets, "--cores", str(cores), "--nocolor"]
    command += ["--snakefile", str(repository / "Snakefile"), "--directory", str(world)]
    command += ["--workflow-profile", str(profile), "--configfile", *map(str, configfiles)]
    library = {"PYTHONPATH": str(repository / "workflow_scripts")}
    answer = subprocess.run(
        command,
        env=os.environ | library,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    runtime.logger.info("%s", answer.stdout)
    if answer.returncode:
        raise DataError(
            "the workflow does not run with the other value of this switch; read why in this "
            "job's log."
        )


if __name__ == "__main__":
    with runtime.job(snakemake) as settings:  # noqa: F821
        measure_switch(
            key=snakemake.wildcards.switch,  # noqa: F821
            measured=list(snakemake.input),  # noqa: F821
            path_to_effect=Path(snakemake.output.effect),  # noqa: F821
            configuration=json.loads(snakemake.params.configuration),  # noqa: F821
            cores=snakemake.threads,  # noqa: F821
            repository=Path(snakemake.params.repository),  # noqa: F821
            **settings,
        )
