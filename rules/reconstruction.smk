# Reconstruction: a guidance scale where a variant asks for one, then images, shard by shard; and
# which repeat of each image a selection chooses.

# MB: Stable Diffusion is loaded through the host; on a CPU each thread computes a batch of its own,
# which takes 900 MB for 50 samples of the miniature.
RECONSTRUCTION_MEMORY = 12000 if GPUS else 2000 + 1000 * THREADS

GUIDANCE_TARGETS = [
    f"clip_image_{layer:02d}" for layer in CONFIG.targets.clip_image.layers
]


rule calibrate_guidance:
    input:
        conditions=get_conditions,
        guiding=get_held_out_guiding,
        encoder=get_guiding_encoder(get_calibrated),
        models=get_generative_receipts(get_calibrated),
    output:
        calibration="<results>/calibrations/{variant}/{subject}.json",
    log:
        "<results>/logs/calibrate_guidance/{variant}/{subject}.log",
    benchmark:
        "<results>/benchmarks/calibrate_guidance/{variant}/{subject}.jsonl"
    conda:
        "../envs/neuraldiffuser.yaml"
    threads: THREADS
    resources:
        gpu=GPUS,
        gpu_memory_gb=GPU_MEMORY,
        mem_mb=growing(RECONSTRUCTION_MEMORY),
        runtime=growing(60),
    params:
        models=get_generative_models(get_calibrated),
        settings=settings("calibrate_guidance"),
        code=get_code("calibrate_guidance", get_calibrated),
    message:
        "{wildcards.subject}: chooses the guidance scale of {wildcards.variant} on held-out images"
    script:
        "../workflow_scripts/calibrate_guidance.py"


rule reconstruct_images:
    input:
        conditions=get_conditions,
        guiding=get_guiding,
        encoder=get_guiding_encoder(get_variant),
        calibrations=get_calibrations_of,
        models=get_generative_receipts(get_variant),
    output:
        reconstructions="<results>/reconstructions/{variant}/{subject}/shard-{shard}.h5",
    log:
        "<results>/logs/reconstruct_images/{variant}/{subject}/{shard}.log",
    benchmark:
        "<results>/benchmarks/reconstruct_images/{variant}/{subject}/{shard}.jsonl"
    conda:
        "../envs/neuraldiffuser.yaml"
    threads: THREADS
    resources:
        gpu=GPUS,
        gpu_memory_gb=GPU_MEMORY,
        mem_mb=growing(RECONSTRUCTION_MEMORY),
        runtime=growing(240),
    params:
        models=get_generative_models(get_variant),
        settings=settings("reconstruct_images"),
        code=get_code("reconstruct_images", get_variant),
    message:
        "{wildcards.subject}: reconstructs shard {wildcards.shard} as {wildcards.variant}"
    script:
        "../workflow_scripts/reconstruct_images.py"


rule select_repeats:
    input:
        reconstructions=get_shards_to_choose_from,
        decoded=collect(
            "<results>/embeddings/{target}/{{subject}}.h5", target=GUIDANCE_TARGETS
        ),
        stimuli=collect(
            "<results>/embeddings/{target}/stimulus.h5", target=GUIDANCE_TARGETS
        ),
        models=get_receipts(CONFIG.models.clip_image),
    output:
        selection="<results>/selections/{selection}/{subject}.csv",
    log:
        "<results>/logs/select_repeats/{selection}/{subject}.log",
    benchmark:
        "<results>/benchmarks/select_repeats/{selection}/{subject}.jsonl"
    conda:
        "../envs/neuraldiffuser.yaml"
    threads: 1
    resources:
        gpu=GPUS,
        mem_mb=growing(6000),
        runtime=growing(60),
    params:
        weights=locate(CONFIG.models.clip_image, CLIP_WEIGHTS),
        settings=settings("select_repeats"),
        code=code_id("select_repeats"),
    message:
        "{wildcards.subject}: chooses one repeat of each image as {wildcards.selection}"
    script:
        "../workflow_scripts/select_repeats.py"
