# Jobs that tell what Slurm gave them, with the workflow's own way of asking.


configfile: f"{workflow.basedir}/../config.yaml"


include: "../rules/common.smk"


rule tell_device:
    output:
        "device_{index}.txt",
    resources:
        gpu=1,
        mem_mb=growing(100),
        runtime=growing(5),
    shell:
        "echo $CUDA_VISIBLE_DEVICES > {output}; sleep 10"


# What a training by two processes asks for.
rule tell_devices:
    output:
        "devices.txt",
    threads: 2
    resources:
        gpu=2,
        processes=2,
        nodes=1,
        mem_mb=growing(100),
        runtime=growing(5),
    shell:
        "(scontrol show job $SLURM_JOB_ID; echo devices $CUDA_VISIBLE_DEVICES) > {output}"


rule outlast_first_limit:
    output:
        "outlasted.txt",
    resources:
        mem_mb=growing(100),
        runtime=growing(1),
    shell:
        "test {resources.runtime} = 2 || sleep 600; squeue --noheader --jobs=$SLURM_JOB_ID"
        " --format='%l %m' > {output}"
