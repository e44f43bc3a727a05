# Ground-truth targets: what the decoders learn to predict, one row per 73k id in use.

from neuraldiffuser.nsd import files as nsd_files


rule extract_vae_latent:
    input:
        responses=get_responses,
        stimuli=f"<nsd>/{nsd_files.STIMULI}",
        models=get_receipts(*get_autoencoder_parts()),
    output:
        target="<results>/targets/vae_latent.h5",
    log:
        "<results>/logs/extract_vae_latent/all.log",
    benchmark:
        "<results>/benchmarks/extract_vae_latent/all.jsonl"
    conda:
        "../envs/neuraldiffuser.yaml"
    threads: THREADS
    resources:
        gpu=GPUS,
        mem_mb=growing(4000 + 2000 * THREADS),
        runtime=growing(240),
    params:
        weights=locate_autoencoder(),
        settings=settings("extract_vae_latent"),
        code=code_id("extract_vae_latent"),
    message:
        "encodes the stimuli in use with the autoencoder"
    script:
        "../workflow_scripts/extract_vae_latent.py"


rule extract_clip_text:
    input:
        responses=get_responses,
        information=f"<nsd>/{nsd_files.STIMULUS_INFORMATION}",
        annotations=[f"<data>/{path}" for path in nsd_files.CAPTIONS],
        models=get_receipts(*get_text_parts()),
    output:
        target="<results>/targets/clip_text.h5",
    log:
        "<results>/logs/extract_clip_text/all.log",
    benchmark:
        "<results>/benchmarks/extract_clip_text/all.jsonl"
    conda:
        "../envs/neuraldiffuser.yaml"
    threads: THREADS
    resources:
        gpu=GPUS,
        mem_mb=growing(4000 + 2000 * THREADS),
        runtime=growing(240),
    params:
        weights=locate(CONFIG.models.stable_diffusion, TEXT_WEIGHTS),
        settings=settings("extract_clip_text"),
        code=code_id("extract_clip_text"),
    message:
        "embeds the captions of the stimuli in use"
    script:
        "../workflow_scripts/extract_clip_text.py"


rule extract_clip_image:
    input:
        responses=get_responses,
        stimuli=f"<nsd>/{nsd_files.STIMULI}",
        models=get_receipts(CONFIG.models.clip_image),
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
    threads: THREADS
    resources:
        gpu=GPUS,
        mem_mb=growing(4000 + 2000 * THREADS),
        runtime=growing(240),
    params:
        weights=locate(CONFIG.models.clip_image, CLIP_WEIGHTS),
        settings=settings("extract_clip_image"),
        code=code_id("extract_clip_image"),
    message:
        "reads all guidance layers of the CLIP image tower in one pass"
    script:
        "../workflow_scripts/extract_clip_image.py"
