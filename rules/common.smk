# What all rule files share - the checked configuration, a stage's settings and code, resources.

import shutil
from pathlib import Path

from neuraldiffuser import devices, exclusion
from neuraldiffuser.config.stages import stage_settings
from neuraldiffuser.config.validation import validate
from neuraldiffuser.errors import ConfigError, StorageError
from neuraldiffuser.identity import code_id
from neuraldiffuser.inspection import rates

try:
    CONFIG = validate(config)
except ConfigError as error:
    raise WorkflowError(str(error)) from None


# <nsd> is where NSD's files are read: the local mirror <data>, or an existing copy as it lies.
pathvars:
    data=CONFIG.paths.data,
    nsd=CONFIG.nsd.bucket if CONFIG.nsd.source == "local" else CONFIG.paths.data,
    models=CONFIG.paths.models,
    results=f"{CONFIG.paths.results}/{CONFIG.experiment}",


# The jobs of a run on this machine end with it, and a run that a job starts ends with that job.
if workflow.is_main_process:
    exclusion.follow()
exclusion.lead()


wildcard_constraints:
    subject=r"subj\d\d|stimulus",
    target=r"vae_latent|clip_text|clip_image_\d\d",
    variant=r"[a-z0-9_]+",
    selection=r"[a-z0-9_]+",
    shard=r"\d+",
    session=r"\d\d",
    version=r"betas_\w+",


def settings(stage):
    """Canonical JSON of exactly the configuration keys that the stage reads for a job."""
    return lambda wildcards: stage_settings(stage, CONFIG, dict(wildcards.items()))


def untracked(value):
    """A parameter that decides no result: taking the output keeps it from being a reason to rerun."""
    return lambda wildcards, output: value


def has_gpu():
    """Whether jobs that can use a GPU ask for one."""
    if CONFIG.runtime.device == "auto":
        return shutil.which("nvidia-smi") is not None
    return CONFIG.runtime.device == "cuda"


def refuse_unknown_device():
    """Refuses runtime.device: auto where this machine's devices say nothing of the jobs' own."""
    if CONFIG.runtime.device == "auto" and not workflow.local_exec:
        raise WorkflowError(
            "runtime.device is auto, but jobs run on other machines than this one; set it to cuda "
            "or cpu."
        )


def claim_folders():
    """Refuses to start where another run writes, or where nothing can be written."""
    jobs = workflow.dag.needrun_jobs()
    outputs = [Path(output) for job in jobs for output in job.output]
    for folder in CONFIG.written_folders:
        if any(output.is_relative_to(folder) for output in outputs):
            try:
                exclusion.claim(folder)
            except StorageError as error:
                raise WorkflowError(str(error)) from None


def growing(amount):
    """Memory or time that grows with every attempt: so much at first, then twice, then thrice.

    ``amount`` is a number, or a function of wildcards. What goes on from a checkpoint needs no more
    time than before: the limit of a decoder's training stays.
    """
    return lambda wildcards, attempt: attempt * (
        amount(wildcards) if callable(amount) else amount
    )


def keep_rates_of_run():
    """Has what this run's jobs took stand beside the results, for the next plan."""
    jobs = [
        (
            job.rule.name,
            dict(job.wildcards.items()),
            [Path(path) for path in job.output],
        )
        for job in workflow.dag.jobs
    ]
    rates.keep_rates(jobs, CONFIG)


GPUS = 1 if has_gpu() else 0
# Snakemake counts what jobs take of a machine's GPUs only where it knows how many there are. A
# cluster, which has nodes, counts its own. (Which executor is meant is not known yet.)
if (
    GPUS
    and workflow.is_main_process
    and workflow.nodes is None
    and "gpu" not in workflow.global_resources
):
    workflow.register_resource("gpu", max(len(devices.list_devices()), 1))
GPU_MEMORY = CONFIG.runtime.gpu_memory_gb or 0
THREADS = CONFIG.runtime.threads
DECODER_THREADS = CONFIG.runtime.decoder_threads
DECODER_PROCESSES = CONFIG.runtime.decoder_processes
