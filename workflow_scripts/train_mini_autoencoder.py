"""Train the miniature Stable Diffusion's autoencoder.

In: nothing but a seed; the training scenes are drawn anew. Out: a folder in diffusers'
layout and a log of the training.
"""

from dataclasses import asdict
from pathlib import Path

import neuraldiffuser.torchvision_schemas  # noqa: F401

from neuraldiffuser import runtime, storage
from neuraldiffuser.mini import models, quality, scenes, training

HELD_OUT = 200
# The decoder alone, once the encoder is settled: mends colours without moving the latents.
POLISH = training.Budget(steps=1000, batch=12, rate=1.5e-3, warmup=20)
MARGINS = {"peak_signal_to_noise_db": 0.7, "pixel_correlation": 0.01}


def train_mini_autoencoder(
    *,
    path_to_autoencoder: Path,
    path_to_log: Path,
    path_to_checkpoint: Path,
    seed: int,
    training_scenes: int,
    steps: int,
    batch: int,
    rate: float,
) -> None:
    """Write the autoencoder, with the scaling factor that gives latents unit deviation.

    Args:
        path_to_autoencoder: folder of the weights, diffusers' layout, float16.
        path_to_log: JSON with device, seed, budget, curve, quality and margins.
        path_to_checkpoint: where an interrupted training goes on from.
        seed: of the scenes, the initial weights and the steps.
        training_scenes: how many scenes, from scenes.FIRST_TRAINING_SCENE on.
        steps: number of optimiser steps.
        batch: pictures of a step.
        rate: highest learning rate.
    """
    tokenizer = models.build_tokenizer(scenes.vocabulary())
    images, _ = training.draw_training_data(
        seed=seed, first=scenes.FIRST_TRAINING_SCENE, count=training_scenes, tokenizer=tokenizer
    )
    held_out, _ = training.draw_training_data(
        seed=seed, first=scenes.FIRST_HELD_OUT_SCENE, count=HELD_OUT, tokenizer=tokenizer
    )
    budget = training.Budget(steps=steps, batch=batch, rate=rate, warmup=50)
    trainer = training.train(
        model=training.initialised(models.build_autoencoder, seed=seed),
        loss_of=training.autoencoder_loss(images=images, batch=batch, seed=seed),
        budget=budget,
        path_to_checkpoint=path_to_checkpoint,
    )
    polisher = training.train(
        model=training.with_fixed_encoder(trainer.average),
        loss_of=training.decoder_loss(images=images, batch=POLISH.batch, seed=seed + 1),
        budget=POLISH,
        path_to_checkpoint=path_to_checkpoint.with_name("decoder.pt"),
    )
    autoencoder = training.with_unit_latents(polisher.average, images[:HELD_OUT])
    models.save_component(autoencoder, path_to_autoencoder)
    log = quality.record(
        seed=seed,
        training_scenes=training_scenes,
        budget=budget,
        curve=trainer.curve,
        quality=quality.autoencoder_quality(autoencoder, held_out),
        margins=MARGINS,
    )
    polished = {"budget": asdict(POLISH), "curve": vars(polisher.curve)}
    storage.write_json(path_to_log, {**log, "decoder_polish": polished})


if __name__ == "__main__":
    with runtime.job(snakemake) as settings:  # noqa: F821
        train_mini_autoencoder(
            path_to_autoencoder=Path(snakemake.output.autoencoder[0]).parent,  # noqa: F821
            path_to_log=Path(snakemake.output.log),  # noqa: F821
            path_to_checkpoint=Path(snakemake.params.checkpoint),  # noqa: F821
            **settings,
        )
