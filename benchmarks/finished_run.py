"""A finished run that nobody computed: small files with the sidecars of a real one."""

import os
from collections.abc import Iterable
from contextlib import chdir
from pathlib import Path

from neuraldiffuser import provenance, storage
from neuraldiffuser.config.models import PretrainedModel
from neuraldiffuser.config.root import Config
from neuraldiffuser.inspection.jobs import Graph, Job
from neuraldiffuser.models import pins


def finish(graph: Graph, folder: Path) -> None:
    """Leaves, in a folder, what a run of every job would leave there, as far as reruns look.

    Args:
        graph: of all jobs; paths in it are relative to the folder.
        folder: in which the workflow would have run.
    """
    with chdir(folder):
        for job in graph.jobs:
            if job.making:
                _finish(job, graph.config)


def _finish(job: Job, config: Config) -> None:
    made = [path for path in job.outputs if not os.path.lexists(path)]
    for path in made:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{job.rule} made {path}\n")
    if job.rule == "check_model":
        _write_receipt(job, config.models.zoo[job.wildcards["model"]])
    if job.rule in ("make_thumbnails", "make_stimulus_thumbnails"):
        _turn_into_folders(path for path in made if not path.suffix)
    making = job.making
    provenance.write_sidecars(
        outputs=list(making.outputs),
        inputs=list(making.inputs),
        stage=making.stage,
        settings=making.settings,
        parameters=making.parameters,
        code=making.code,
        device="cpu",
        seconds=1.0,
        measured={},
    )


def _write_receipt(job: Job, model: PretrainedModel) -> None:
    """What check_model leaves of a pinned file; a Python package's file is no input."""
    receipt, seen = sorted(job.outputs, key=lambda path: path.suffix)
    pin = model.files[job.wildcards["file"]].model_dump(exclude_none=True)
    place = job.inputs[0] if job.inputs else ""
    storage.write_json(receipt, {"size": 0, "sha256": "0" * 64} | pin)
    storage.write_json(seen, {"place": str(place), "look": pins.look(place)})


def _turn_into_folders(paths: Iterable[Path]) -> None:
    for path in paths:
        path.unlink()
        path.mkdir()
