# Reconstruction: a guidance scale where a variant asks for one, then images, shard by shard.

STABLE_DIFFUSION = [
    f"<models>/{CONFIG.models.stable_diffusion}/{file}"
    for file in (
        "scheduler/scheduler_config.json",
        "tokenizer/merges.txt",
        "tokenizer/vocab.json",
        "text_encoder/config.json",
        "text_encoder/model.safetensors",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
    )
]
CLIP_IMAGE = [
    f"<models>/{CONFIG.models.clip_image}/{file}"
    for file in ("open_clip_config.json", "open_clip_model.safetensors")
]


rule calibrate_guidance:
    input:
        embeddings=get_held_out_embeddings,
        stable_diffusion=STABLE_DIFFUSION,
        guidance=get_guidance_model,
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
        mem_mb=4000,
        runtime=60,
    params:
        settings=settings("calibrate_guidance"),
        code=code_id("calibrate_guidance"),
    message:
        "{wildcards.subject}: chooses the guidance scale of {wildcards.variant} on held-out images"
    script:
        "../workflow_scripts/calibrate_guidance.py"


rule reconstruct_images:
    input:
        embeddings=get_embeddings,
        stable_diffusion=STABLE_DIFFUSION,
        guidance=get_guidance_model,
        calibration=get_calibration,
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
        mem_mb=4000,
        runtime=240,
    params:
        settings=settings("reconstruct_images"),
        code=code_id("reconstruct_images"),
    message:
        "{wildcards.subject}: reconstructs shard {wildcards.shard} as {wildcards.variant}"
    script:
        "../workflow_scripts/reconstruct_images.py"
