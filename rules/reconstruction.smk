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


def get_variant(wildcards):
    """The settings of a named variant."""
    variants = CONFIG.reconstruction.resolved_variants
    if wildcards.variant not in variants:
        raise WorkflowError(
            f"No variant {wildcards.variant}; known are {', '.join(variants)}."
        )
    return variants[wildcards.variant]


def get_conditions(wildcards):
    """What every sample starts from and is conditioned on."""
    return collect(
        "<results>/embeddings/{target}/{subject}.h5",
        target=["vae_latent", "clip_text"],
        subject=wildcards.subject,
    )


def get_guiding_features(wildcards, subject):
    """Guidance layers of a subject; nothing where nothing guides."""
    guided = get_variant(wildcards).guidance == "clip_layers"
    layers = CONFIG.targets.clip_image.layers if guided else ()
    return [
        f"<results>/embeddings/clip_image_{layer:02d}/{subject}.h5" for layer in layers
    ]


def get_embeddings(wildcards):
    """A variant's conditions and features; the mean feature is that of training stimuli."""
    mean = get_variant(wildcards).features == "mean"
    subject = "stimulus" if mean else wildcards.subject
    return get_conditions(wildcards) + get_guiding_features(wildcards, subject)


def get_held_out_embeddings(wildcards):
    """What a scale is calibrated on: held-out images with their own features."""
    return get_conditions(wildcards) + get_guiding_features(
        wildcards, wildcards.subject
    )


def get_guidance_model(wildcards):
    """The network that guides, or nothing."""
    return CLIP_IMAGE if get_variant(wildcards).guidance == "clip_layers" else []


def get_calibration(wildcards):
    """The calibration of a variant's scale, its own or another's, or nothing for a number."""
    variant = get_variant(wildcards)
    if variant.guidance == "none" or not isinstance(variant.scale, str):
        return []
    lender = wildcards.variant if variant.scale == "auto" else variant.scale
    return [f"<results>/calibrations/{lender}/{wildcards.subject}.json"]


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
