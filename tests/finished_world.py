"""A finished experiment without its computing: small files with the sidecars of a real run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from neuraldiffuser import contents, provenance, storage
from neuraldiffuser.config.models import PinnedFile
from neuraldiffuser.config.root import Config
from neuraldiffuser.inspection.jobs import Job, read_graph
from neuraldiffuser.models import pins


def finish(configfiles: Sequence[Path], *, folder: Path, **changes: Any) -> int:
    """Writes every artefact of an experiment as a small file with its sidecar.

    Args:
        configfiles: overlays of config.yaml.
        folder: in which the workflow would run.
        changes: keys over those of the files.

    Returns:
        how many jobs there are.
    """
    graph = read_graph(configfiles, folder=folder, changes=changes)
    made = [job for job in graph.jobs if job.making]
    for job in made:
        _make(job, folder, graph.config)
    return len(made)


def _make(job: Job, folder: Path, config: Config) -> None:
    outputs = [folder / path for path in job.outputs]
    for path in outputs:
        path.parent.mkdir(parents=True, exist_ok=True)
        if is_folder(job, path):
            path.mkdir()
        else:
            path.write_text(f"{tell_contents(job, path.relative_to(folder))}\n")
    if job.rule == "check_model":
        pin = config.models.zoo[job.wildcards["model"]].files[job.wildcards["file"]]
        _write_receipt(job, *outputs, folder=folder, pin=pin)
    making = job.making
    provenance.write_sidecars(
        outputs=outputs,
        inputs=[folder / path for path in job.inputs],
        stage=making.stage,
        settings=making.settings,
        parameters=making.parameters,
        code=making.code,
        device="cpu",
        seconds=1.0,
        measured={},
    )


def is_folder(job: Job, path: Path) -> bool:
    """Whether an output is one of the gallery's folders, which a file beside it describes."""
    return job.rule in ("make_thumbnails", "make_stimulus_thumbnails") and not path.suffix


def tell_contents(job: Job, path: Path) -> Path:
    """What tells an output from all others: where it lies, of a copy where its source lies."""
    return job.inputs[0] if job.rule == "fetch_file" and job.inputs else path


def _write_receipt(job: Job, receipt: Path, seen: Path, *, folder: Path, pin: PinnedFile) -> None:
    """The next plan compares with them what lies there then; of a package's files they say less.

    A file that is only pretended passes for the pinned one.
    """
    for path in (folder / path for path in job.inputs):
        found = {"size": path.stat().st_size, "sha256": contents.digest(path)}
        storage.write_json(receipt, found | pin.model_dump(exclude_none=True))
    look = "".join(pins.look(folder / path) for path in job.inputs)
    storage.write_json(seen, {"look": look})
