"""Has Snakemake decide by what files hold, not by their dates, what must run again.

Snakemake compares file dates with a record in the folder from which it was started. Here the
provenance beside the results decides instead (neuraldiffuser.reruns). What is replaced are parts of
Snakemake itself, which is why requirements.txt pins its version.
"""

from collections.abc import AsyncIterator, Callable, Iterator
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import snakemake.workflow
from snakemake.dag import DAG
from snakemake.io import _IOFile
from snakemake.jobs import Job
from snakemake.persistence import NO_PARAMS_CHANGE, ParamsChange
from snakemake.persistence.file import FilePersistence

from neuraldiffuser import provenance
from neuraldiffuser.identity import canonical_json
from neuraldiffuser.reruns import Change, Making, find_changes, identify_input

LONGEST = 100  # characters of a value in a message


def decide_by_content() -> None:
    """Makes this process's Snakemake decide by content."""
    snakemake.workflow.FilePersistence = ContentPersistence
    _IOFile.is_newer = _is_never_newer
    DAG.check_output_mtime = _accept_any_date
    Job.outputs_older_than_script_or_notebook = _find_none


async def _is_never_newer(_file: _IOFile, _time: float) -> bool:
    return False


async def _accept_any_date(_dag: DAG, _job: Any, _outputs: list[_IOFile]) -> None:
    """A clock that was set back is no reason to throw results away."""


async def _find_none(_job: Job) -> AsyncIterator[_IOFile]:
    """Outputs older than their script: what identifies code tells more than its date."""
    return
    yield


class ContentPersistence(FilePersistence):
    """Answers from the sidecars beside the outputs of a job what changed since they were made."""

    def has_metadata(self, _job: Any) -> bool:
        """Sidecars are compared in any case; one that is missing is a change."""
        return True

    def has_outdated_metadata(self, _job: Any) -> bool:
        """The version of Snakemake's own record does not matter."""
        return False

    def input_changed(self, _job: Any, file: Any = None) -> bool | Iterator[Any]:
        """Inputs are compared by content, among everything else."""
        return False if file is not None else iter(())

    @cached_property
    def _identify(self) -> Callable[[Path], str]:
        """Looks at each input once: Snakemake decides on all jobs before the first one starts."""
        return cache(identify_input)

    def params_changed(self, job: Any, file: Any = None) -> ParamsChange:
        """What changed, key by key."""
        making = describe_making(job)
        if making is None:
            return NO_PARAMS_CHANGE
        changes = find_changes(making, self._identify)
        if not changes:
            return NO_PARAMS_CHANGE
        return ParamsChange(
            only_old={_write(change, change.before) for change in changes},
            only_new={_write(change, change.now) for change in changes},
            files={file} if file is not None else set(job.output),
        )


def describe_making(job: Any) -> Making | None:
    """How a job of Snakemake's would make its outputs; None if it makes none with a sidecar."""
    if not job.output or not hasattr(job.params, "settings"):
        return None
    told = provenance.read_parameters(job.params)
    decisive = [canonical_json(value) for value in job.non_derived_params]
    return Making(
        stage=job.rule.name,
        wildcards=dict(job.wildcards.items()),
        outputs=[Path(path) for path in job.output],
        inputs=[Path(path) for path in job.input],
        settings=told["settings"],
        code=told["code"],
        parameters={
            name: value
            for name, value in told["parameters"].items()
            if canonical_json(value) in decisive
        },
        lost=job.params.get(provenance.LOST),
    )


def _write(change: Change, value: str) -> str:
    shown = value if len(value) <= LONGEST else f"{value[:LONGEST]}…"
    return f"{change.kind} {change.name}: {shown}"
