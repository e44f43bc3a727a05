"""The jobs of an experiment, read from Snakemake's own graph without running any."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from snakemake.api import SnakemakeApi
from snakemake.exceptions import WorkflowError
from snakemake.settings.types import (
    ConfigSettings,
    DAGSettings,
    OutputSettings,
    Quietness,
    ResourceSettings,
)

from neuraldiffuser.config.root import Config
from neuraldiffuser.errors import ConfigError
from neuraldiffuser.provenance import REPOSITORY
from neuraldiffuser.reruns import NOTHING, Change, Identify, Making, find_changes, identify_input
from neuraldiffuser.snakemake_by_content import describe_making


@dataclass(frozen=True)
class Job:
    """One job of the graph.

    Attributes:
        number: its place in the graph, upstream first.
        rule: its name.
        wildcards: by name.
        inputs: files that it reads.
        outputs: files that it makes.
        resources: what its rule asks for on its first attempt; ``threads`` among them.
        needs: numbers of the jobs that make its inputs.
        making: how it would make its outputs; None if it makes none.
        runs: whether Snakemake would run it now.
        reason: why, in Snakemake's words; "" if it would not.
        changes: between how its files were made and how it would make them, missing ones among
            them; none if it would not run.
    """

    number: int
    rule: str
    wildcards: Mapping[str, str]
    inputs: tuple[Path, ...]
    outputs: tuple[Path, ...]
    resources: Mapping[str, Any]
    needs: tuple[int, ...]
    making: Making | None
    runs: bool
    reason: str
    changes: tuple[Change, ...]


@dataclass(frozen=True)
class Graph:
    """An experiment's checked configuration and all of its jobs, upstream first."""

    config: Config
    jobs: tuple[Job, ...]


def read_graph(
    configfiles: Sequence[Path] = (),
    *,
    targets: Sequence[str] = (),
    folder: Path | None = None,
    changes: Mapping[str, Any] | None = None,
) -> Graph:
    """The graph of an experiment, as Snakemake would see it now.

    Args:
        configfiles: overlays of config.yaml, the later ones over the earlier.
        targets: files or rules; by default everything.
        folder: in which the workflow runs; by default where this process stands.
        changes: keys over those of the files, nested as in a file.

    Raises:
        ConfigError: Snakemake refuses the configuration, or finds an input that nothing makes.
    """
    paths = [Path(path).resolve() for path in configfiles]
    with chdir(folder or "."), _build(paths, targets=targets, changes=changes or {}) as workflow:
        dag = workflow.dag
        ordered = [job for level in dag.toposorted() for job in level]
        numbers = {job: number for number, job in enumerate(ordered)}
        identify = cache(identify_input)
        jobs = tuple(_describe(job, dag, numbers=numbers, identify=identify) for job in ordered)
        return Graph(config=workflow.globals["CONFIG"], jobs=jobs)


@contextmanager
def _build(
    configfiles: Sequence[Path],
    *,
    targets: Sequence[str],
    changes: Mapping[str, Any],
) -> Iterator[Any]:
    """A workflow of Snakemake's whose graph is built."""
    with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
        logging.getLogger("snakemake").setLevel(logging.ERROR)
        made = api.workflow(
            resource_settings=ResourceSettings(cores=1),
            config_settings=ConfigSettings(configfiles=configfiles, config=changes),
            snakefile=REPOSITORY / "Snakefile",
        )
        try:
            made.dag(DAGSettings(targets=set(targets), force_incomplete=True))
            workflow = made._workflow
            workflow._prepare_dag(forceall=False, ignore_incomplete=True, lock_warn_only=True)
            workflow._build_dag()
        except WorkflowError as error:
            raise ConfigError(f"The workflow cannot be planned: {error}") from error
        yield workflow


def _describe(job: Any, dag: Any, *, numbers: Mapping[Any, int], identify: Identify) -> Job:
    runs = dag.needrun(job)
    making = describe_making(job)
    return Job(
        number=numbers[job],
        rule=job.rule.name,
        wildcards=dict(job.wildcards.items()),
        inputs=tuple(Path(path) for path in job.input),
        outputs=tuple(Path(path) for path in job.output),
        resources={"threads": job.threads, **dict(job.resources.items())},
        needs=tuple(sorted(numbers[each] for each in dag.dependencies[job])),
        making=making,
        runs=runs,
        reason=str(dag.reason(job)) if runs else "",
        changes=tuple(_list_changes(making, identify)) if runs and making else (),
    )


def _list_changes(making: Making, identify: Identify) -> Iterator[Change]:
    yield from find_changes(making, identify)
    for path in making.outputs:
        if not path.exists():
            yield Change("missing", str(path), NOTHING, "needed")
