"""Train the miniature Stable Diffusion's denoiser and complete its folder.

In: autoencoder, tokenizer and text encoder, and their logs; the training scenes are drawn
anew. Out: denoiser, noise schedule, model index, the log of all trainings, a sample sheet.
"""

from pathlib import Path

import neuraldiffuser.torchvision_schemas  # noqa: F401

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from neuraldiffuser import runtime, storage
from neuraldiffuser.mini import models, quality, scenes, training

HELD_OUT = 200
SHOWN = 12  # scenes on the sample sheet
MARGINS = {"held_out_loss": 0.006, "pixel_correlation_from_truth": 0.04}


def train_mini_denoiser(
    *,
    path_to_stable_diffusion: Path,
    paths_to_logs: dict[str, Path],
    path_to_log: Path,
    path_to_samples: Path,
    path_to_checkpoint: Path,
    seed: int,
    training_scenes: int,
    steps: int,
    batch: int,
    rate: float,
) -> None:
    """Write unet, scheduler and model index beside the components that are there.

    Args:
        path_to_stable_diffusion: folder that holds vae, tokenizer and text_encoder.
        paths_to_logs: logs of the other trainings by model, to be joined.
        path_to_log: JSON with one record per model.
        path_to_samples: PNG with scenes, round trips and samples.
        path_to_checkpoint: where an interrupted training goes on from.
        seed: of the scenes, the initial weights and the steps.
        training_scenes: how many scenes, from scenes.FIRST_TRAINING_SCENE on.
        steps: number of optimiser steps.
        batch: latents of a step.
        rate: highest learning rate.
    """
    components = load_components(path_to_stable_diffusion)
    latents, conditions = prepare(components, seed=seed, count=training_scenes)
    budget = training.Budget(steps=steps, batch=batch, rate=rate)
    scheduler = models.build_scheduler()
    trainer = training.train(
        model=training.initialised(models.build_denoiser, seed=seed),
        loss_of=training.denoising_loss(
            latents=latents, conditions=conditions, scheduler=scheduler, batch=batch, seed=seed
        ),
        budget=budget,
        path_to_checkpoint=path_to_checkpoint,
    )
    models.save_component(trainer.average, path_to_stable_diffusion / "unet")
    models.save_scheduler(scheduler, path_to_stable_diffusion / "scheduler")
    models.save_model_index(path_to_stable_diffusion)
    measured = judge(trainer.average, components, seed=seed, path_to_samples=path_to_samples)
    log = quality.record(
        seed=seed,
        training_scenes=training_scenes,
        budget=budget,
        curve=trainer.curve,
        quality=measured,
        margins=MARGINS,
    )
    others = {name: storage.read_json(path) for name, path in paths_to_logs.items()}
    storage.write_json(path_to_log, {**others, "denoiser": log})


Components = tuple[AutoencoderKL, CLIPTokenizer, CLIPTextModel]


def load_components(path_to_stable_diffusion: Path) -> Components:
    """What the denoiser works with, in float32."""
    folder, single = path_to_stable_diffusion, torch.float32
    return (
        AutoencoderKL.from_pretrained(folder, subfolder="vae", torch_dtype=single),
        CLIPTokenizer.from_pretrained(folder, subfolder="tokenizer"),
        CLIPTextModel.from_pretrained(folder, subfolder="text_encoder", dtype=single),
    )


def prepare(
    components: Components, *, seed: int, count: int
) -> tuple[np.ndarray, training.Conditions]:
    """Scaled latents, float16 (count, 4, 16, 16), and conditions of the training scenes."""
    autoencoder, tokenizer, text_encoder = components
    images, tokens = training.draw_training_data(
        seed=seed, first=scenes.FIRST_TRAINING_SCENE, count=count, tokenizer=tokenizer
    )
    scaled = training.encode_latents(autoencoder, images) * autoencoder.config.scaling_factor
    empty = training.encode_empty(text_encoder, tokenizer)
    return scaled, training.gather_conditions(encoder=text_encoder, tokens=tokens, empty=empty)


def judge(
    denoiser: UNet2DConditionModel, components: Components, *, seed: int, path_to_samples: Path
) -> dict[str, float]:
    """Quality on held-out scenes; draws the sample sheet."""
    autoencoder, tokenizer, text_encoder = components
    images, tokens = training.draw_training_data(
        seed=seed, first=scenes.FIRST_HELD_OUT_SCENE, count=HELD_OUT, tokenizer=tokenizer
    )
    empty = training.encode_empty(text_encoder, tokenizer)
    known = training.gather_conditions(encoder=text_encoder, tokens=tokens, empty=empty)
    states = training.scene_states(known, np.arange(HELD_OUT))
    told = {"conditions": states.mean(dim=1), "scheduler": models.build_scheduler()}
    sheet = quality.sample_sheet(
        denoiser=denoiser,
        autoencoder=autoencoder,
        images=images[:SHOWN],
        conditions=told["conditions"][:SHOWN],
        scheduler=told["scheduler"],
        empty=empty,
    )
    quality.save_sheet(sheet, path_to_samples)
    latents = quality.encode(autoencoder, images)
    returned = quality.sample(denoiser, start=latents, empty=empty, **told)
    correlations = quality.pixel_correlation(images, quality.decode(autoencoder, returned))
    return {
        "held_out_loss": quality.denoiser_loss(denoiser, latents=latents, **told),
        "pixel_correlation_from_truth": float(correlations.mean()),
    }


if __name__ == "__main__":
    with runtime.job(snakemake) as settings:  # noqa: F821
        train_mini_denoiser(
            path_to_stable_diffusion=Path(snakemake.output.model_index).parent,  # noqa: F821
            paths_to_logs={
                "autoencoder": Path(snakemake.input.autoencoder_log),  # noqa: F821
                "clip": Path(snakemake.input.clip_log),  # noqa: F821
            },
            path_to_log=Path(snakemake.output.log),  # noqa: F821
            path_to_samples=Path(snakemake.output.samples),  # noqa: F821
            path_to_checkpoint=Path(snakemake.params.checkpoint),  # noqa: F821
            **settings,
        )
