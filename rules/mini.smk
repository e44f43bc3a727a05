# The miniature world: its bucket of simulated brains.

from neuraldiffuser.nsd import files as nsd_files


def is_generated():
    """Whether the experiment reads the bucket that the workflow generates."""
    return CONFIG.nsd.bucket == CONFIG.mini.bucket


def get_generated_files():
    """Every file of the generated bucket; none where another one is used."""
    subjects = sorted({*CONFIG.subjects, *CONFIG.pretraining_subjects})
    sessions = CONFIG.nsd.sessions
    names = nsd_files.generated_objects(
        subjects, sessions=sessions, version=CONFIG.nsd.betas
    )
    return [f"{CONFIG.mini.bucket}/{name}" for name in names]


rule generate_mini_world:
    output:
        get_generated_files(),
    log:
        "<results>/logs/generate_mini_world/all.log",
    benchmark:
        "<results>/benchmarks/generate_mini_world/all.jsonl"
    conda:
        "../envs/neuraldiffuser.yaml"
    threads: THREADS
    resources:
        mem_mb=3000,
        runtime=30,
    params:
        settings=settings("generate_mini_world"),
        code=code_id("generate_mini_world"),
    message:
        "draws scenes and simulates the brains that see them"
    script:
        "../workflow_scripts/generate_mini_world.py"
