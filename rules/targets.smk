# Ground-truth targets: what the decoders learn to predict, one row per 73k id in use.

from neuraldiffuser.nsd import files as nsd_files


def get_subjects_in_use():
    """Every subject that is evaluated or pretrains."""
    return sorted({*CONFIG.subjects, *CONFIG.pretraining_subjects})


def get_responses(wildcards):
    """Which image each trial of every subject in use showed."""
    return [
        f"<data>/{nsd_files.responses(subject)}" for subject in get_subjects_in_use()
    ]


def get_autoencoder():
    """Folder of the autoencoder whose encoder makes the latents."""
    if CONFIG.targets.vae_latent.autoencoder == "stable_diffusion":
        return f"<models>/{CONFIG.models.stable_diffusion}/vae"
    return f"<models>/{CONFIG.models.image_variations_autoencoder}"


def get_text_model(part):
    """Folder of a part of Stable Diffusion that embeds captions."""
    return f"<models>/{CONFIG.models.stable_diffusion}/{part}"


rule extract_vae_latent:
    input:
        responses=get_responses,
        stimuli=f"<data>/{nsd_files.STIMULI}",
        weights=f"{get_autoencoder()}/diffusion_pytorch_model.safetensors",
        configuration=f"{get_autoencoder()}/config.json",
    output:
        target="<results>/targets/vae_latent.h5",
    log:
        "<results>/logs/extract_vae_latent/all.log",
    benchmark:
        "<results>/benchmarks/extract_vae_latent/all.jsonl"
    conda:
        "../envs/neuraldiffuser.yaml"
    threads: 1
    resources:
        gpu=GPUS,
        mem_mb=8000,
        runtime=240,
    params:
        settings=settings("extract_vae_latent"),
        code=code_id("extract_vae_latent"),
    message:
        "encodes the stimuli in use with the autoencoder"
    script:
        "../workflow_scripts/extract_vae_latent.py"


rule extract_clip_text:
    input:
        responses=get_responses,
        information=f"<data>/{nsd_files.STIMULUS_INFORMATION}",
        annotations=[f"<data>/{path}" for path in nsd_files.CAPTIONS],
        weights=f"{get_text_model('text_encoder')}/model.safetensors",
        configuration=f"{get_text_model('text_encoder')}/config.json",
        tokenizer=multiext(
            f"{get_text_model('tokenizer')}/", "vocab.json", "merges.txt"
        ),
    output:
        target="<results>/targets/clip_text.h5",
    log:
        "<results>/logs/extract_clip_text/all.log",
    benchmark:
        "<results>/benchmarks/extract_clip_text/all.jsonl"
    conda:
        "../envs/neuraldiffuser.yaml"
    threads: 1
    resources:
        gpu=GPUS,
        mem_mb=8000,
        runtime=240,
    params:
        settings=settings("extract_clip_text"),
        code=code_id("extract_clip_text"),
    message:
        "embeds the captions of the stimuli in use"
    script:
        "../workflow_scripts/extract_clip_text.py"


rule extract_clip_image:
    input:
        responses=get_responses,
        stimuli=f"<data>/{nsd_files.STIMULI}",
        weights=f"<models>/{CONFIG.models.clip_image}/open_clip_model.safetensors",
        configuration=f"<models>/{CONFIG.models.clip_image}/open_clip_config.json",
    output:
        targets=[
            f"<results>/targets/clip_image_{layer:02d}.h5"
            for layer in CONFIG.targets.clip_image.layers
        ],
    log:
        "<results>/logs/extract_clip_image/all.log",
    benchmark:
        "<results>/benchmarks/extract_clip_image/all.jsonl"
    conda:
        "../envs/neuraldiffuser.yaml"
    threads: 1
    resources:
        gpu=GPUS,
        mem_mb=8000,
        runtime=240,
    params:
        settings=settings("extract_clip_image"),
        code=code_id("extract_clip_image"),
    message:
        "reads all guidance layers of the CLIP image tower in one pass"
    script:
        "../workflow_scripts/extract_clip_image.py"
