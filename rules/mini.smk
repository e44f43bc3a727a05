# The miniature world: its bucket of simulated brains.


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
        mem_mb=growing(3000),
        runtime=growing(30),
    params:
        settings=settings("generate_mini_world"),
        code=code_id("generate_mini_world"),
    message:
        "draws scenes and simulates the brains that see them"
    script:
        "../workflow_scripts/generate_mini_world.py"


# Training of the miniature's models; the workflow uses the weights that the repository ships.
# An interrupted training goes on from its checkpoint, which is a parameter, not an output:
# Snakemake would remove an output. (Path variables are not filled in within parameters.)

CHECKPOINTS = f"{CONFIG.paths.results}/{CONFIG.experiment}/mini_models/checkpoints"


rule mini_models:
    input:
        "<results>/mini_models/stable-diffusion/model_index.json",
        "<results>/mini_models/training_log.json",


rule train_mini_autoencoder:
    output:
        autoencoder=multiext(
            "<results>/mini_models/stable-diffusion/vae/",
            "config.json",
            "diffusion_pytorch_model.safetensors",
        ),
        log="<results>/mini_models/autoencoder_log.json",
    log:
        "<results>/logs/train_mini_autoencoder/all.log",
    benchmark:
        "<results>/benchmarks/train_mini_autoencoder/all.jsonl"
    conda:
        "../envs/neuraldiffuser.yaml"
    threads: THREADS
    resources:
        gpu=GPUS,
        mem_mb=growing(6000),
        runtime=growing(60),
    params:
        settings=settings("train_mini_autoencoder"),
        code=code_id("train_mini_autoencoder"),
        checkpoint=untracked(f"{CHECKPOINTS}/autoencoder.pt"),
    message:
        "trains the miniature's autoencoder"
    script:
        "../workflow_scripts/train_mini_autoencoder.py"


rule train_mini_clip:
    output:
        clip=multiext(
            "<results>/mini_models/clip/",
            "open_clip_config.json",
            "open_clip_model.safetensors",
        ),
        tokenizer=multiext(
            "<results>/mini_models/stable-diffusion/tokenizer/",
            "tokenizer.json",
            "tokenizer_config.json",
            "vocab.json",
            "merges.txt",
        ),
        text_encoder=multiext(
            "<results>/mini_models/stable-diffusion/text_encoder/",
            "config.json",
            "model.safetensors",
        ),
        log="<results>/mini_models/clip_log.json",
    log:
        "<results>/logs/train_mini_clip/all.log",
    benchmark:
        "<results>/benchmarks/train_mini_clip/all.jsonl"
    conda:
        "../envs/neuraldiffuser.yaml"
    threads: THREADS
    resources:
        gpu=GPUS,
        mem_mb=growing(6000),
        runtime=growing(60),
    params:
        settings=settings("train_mini_clip"),
        code=code_id("train_mini_clip"),
        checkpoint=untracked(f"{CHECKPOINTS}/clip.pt"),
    message:
        "trains the miniature's CLIP and text encoder"
    script:
        "../workflow_scripts/train_mini_clip.py"


rule train_mini_denoiser:
    input:
        autoencoder=rules.train_mini_autoencoder.output.autoencoder,
        autoencoder_log=rules.train_mini_autoencoder.output.log,
        tokenizer=rules.train_mini_clip.output.tokenizer,
        text_encoder=rules.train_mini_clip.output.text_encoder,
        clip_log=rules.train_mini_clip.output.log,
    output:
        unet=multiext(
            "<results>/mini_models/stable-diffusion/unet/",
            "config.json",
            "diffusion_pytorch_model.safetensors",
        ),
        scheduler="<results>/mini_models/stable-diffusion/scheduler/scheduler_config.json",
        model_index="<results>/mini_models/stable-diffusion/model_index.json",
        samples="<results>/mini_models/samples.png",
        log="<results>/mini_models/training_log.json",
    log:
        "<results>/logs/train_mini_denoiser/all.log",
    benchmark:
        "<results>/benchmarks/train_mini_denoiser/all.jsonl"
    conda:
        "../envs/neuraldiffuser.yaml"
    threads: THREADS
    resources:
        gpu=GPUS,
        mem_mb=growing(6000),
        runtime=growing(120),
    params:
        settings=settings("train_mini_denoiser"),
        code=code_id("train_mini_denoiser"),
        checkpoint=untracked(f"{CHECKPOINTS}/denoiser.pt"),
    message:
        "trains the miniature's denoiser and draws a sheet of samples"
    script:
        "../workflow_scripts/train_mini_denoiser.py"
