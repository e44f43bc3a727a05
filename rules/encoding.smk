# Brain-encoding models: from images to a subject's voxels.


rule train_encoder:
    input:
        voxels="<results>/voxels/{subject}.h5",
        stimuli=f"<nsd>/{nsd_files.STIMULI}",
    output:
        encoder="<results>/encoders/{subject}.safetensors",
        accuracy="<results>/encoders/{subject}.h5",
    log:
        "<results>/logs/train_encoder/{subject}.log",
    benchmark:
        "<results>/benchmarks/train_encoder/{subject}.jsonl"
    conda:
        "../envs/neuraldiffuser.yaml"
    threads: 1
    resources:
        gpu=GPUS,
        mem_mb=6000,
        runtime=480,
    params:
        settings=settings("train_encoder"),
        code=code_id("train_encoder"),
    message:
        "{wildcards.subject}: fits the brain-encoding model"
    script:
        "../workflow_scripts/train_encoder.py"
