# How well encoding models do, and what brains say of images through them.

# MB: 5 repeats of 1,000 images of 512 pixels take 4,000; their features and libraries the rest.
JUDGING_MEMORY = 12000


rule evaluate_encoder:
    input:
        voxelwise="<results>/encoders/{subject}.h5",
    output:
        accuracy="<results>/encoders/{subject}_accuracy.csv",
    log:
        "<results>/logs/evaluate_encoder/{subject}.log",
    benchmark:
        "<results>/benchmarks/evaluate_encoder/{subject}.jsonl"
    conda:
        "../envs/neuraldiffuser.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        settings=settings("evaluate_encoder"),
        code=code_id("evaluate_encoder"),
    message:
        "{wildcards.subject}: compares the encoding model with the noise ceiling of each area"
    script:
        "../workflow_scripts/evaluate_encoder.py"


rule evaluate_brain:
    input:
        reconstructions=get_shards_to_judge,
        selection=get_selection_to_judge,
        voxels="<results>/voxels/{subject}.h5",
        encoder="<results>/encoders/{subject}.safetensors",
    output:
        brain="<results>/evaluation/{variant}/{subject}/brain.csv",
    log:
        "<results>/logs/evaluate_brain/{variant}/{subject}.log",
    benchmark:
        "<results>/benchmarks/evaluate_brain/{variant}/{subject}.jsonl"
    wildcard_constraints:
        variant=rf"(?!{STIMULUS}/)[a-z0-9_]+",
    conda:
        "../envs/neuraldiffuser.yaml"
    threads: 1
    resources:
        mem_mb=growing(JUDGING_MEMORY),
        runtime=growing(60),
        gpu=GPUS,
    params:
        settings=settings("evaluate_brain"),
        code=code_id("evaluate_brain"),
    message:
        "{wildcards.variant}, {wildcards.subject}: correlates the encoder's responses to "
        "reconstructions with the brain's"
    script:
        "../workflow_scripts/evaluate_brain.py"


rule evaluate_brain_of_stimuli:
    input:
        stimuli=f"<nsd>/{nsd_files.STIMULI}",
        voxels="<results>/voxels/{subject}.h5",
        encoder="<results>/encoders/{subject}.safetensors",
    output:
        brain=f"<results>/evaluation/{STIMULUS}/{{subject}}/brain.csv",
    log:
        "<results>/logs/evaluate_brain_of_stimuli/{subject}.log",
    benchmark:
        "<results>/benchmarks/evaluate_brain_of_stimuli/{subject}.jsonl"
    conda:
        "../envs/neuraldiffuser.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(60),
        gpu=GPUS,
    params:
        settings=settings("evaluate_brain_of_stimuli"),
        code=code_id("evaluate_brain_of_stimuli"),
    message:
        "{wildcards.subject}: correlates the encoder's responses to the stimuli with the brain's"
    script:
        "../workflow_scripts/evaluate_brain_of_stimuli.py"


rule compare_brain:
    input:
        brain=get_brain_evaluations,
    output:
        comparisons="<results>/evaluation/brain_comparisons.csv",
    log:
        "<results>/logs/compare_brain/all.log",
    benchmark:
        "<results>/benchmarks/compare_brain/all.jsonl"
    conda:
        "../envs/neuraldiffuser.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(30),
    params:
        settings=settings("compare_brain"),
        code=code_id("compare_brain"),
    message:
        "compares brain correlations of reconstructions with those of the stimuli"
    script:
        "../workflow_scripts/compare_brain.py"
