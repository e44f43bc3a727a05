"""Train the miniature CLIP, and make Stable Diffusion's text encoder of its caption tower.

In: nothing but a seed; the training scenes are drawn anew. Out: CLIP in open_clip's layout,
tokenizer and text encoder in transformers', and a log of the training.
"""

from pathlib import Path

import neuraldiffuser.torchvision_schemas  # noqa: F401

from neuraldiffuser import runtime, storage
from neuraldiffuser.mini import models, quality, scenes, training

HELD_OUT = 1000
MARGINS = {"top_1_among_100": 0.04, "top_1_among_1000": 0.08}


def train_mini_clip(
    *,
    path_to_clip: Path,
    path_to_tokenizer: Path,
    path_to_text_encoder: Path,
    path_to_log: Path,
    path_to_checkpoint: Path,
    seed: int,
    training_scenes: int,
    steps: int,
    batch: int,
    rate: float,
) -> None:
    """Write CLIP, the tokenizer, and the caption tower as a transformers model.

    Args:
        path_to_clip: folder in open_clip's local layout, float16.
        path_to_tokenizer: folder in transformers' layout.
        path_to_text_encoder: folder in transformers' layout, float16.
        path_to_log: JSON with device, seed, budget, curve, quality and margins.
        path_to_checkpoint: where an interrupted training goes on from.
        seed: of the scenes, the initial weights and the steps.
        training_scenes: how many scenes, from scenes.FIRST_TRAINING_SCENE on.
        steps: number of optimiser steps.
        batch: pairs of picture and caption of a step.
        rate: highest learning rate.
    """
    tokenizer = models.build_tokenizer(scenes.vocabulary())
    images, tokens = training.draw_training_data(
        seed=seed, first=scenes.FIRST_TRAINING_SCENE, count=training_scenes, tokenizer=tokenizer
    )
    held_out, held_out_tokens = training.draw_training_data(
        seed=seed, first=scenes.FIRST_HELD_OUT_SCENE, count=HELD_OUT, tokenizer=tokenizer
    )
    budget = training.Budget(
        steps=steps, batch=batch, rate=rate, weight_decay=0.1, warmup=60, precision="float32"
    )
    trainer = training.train(
        model=training.initialised(lambda: models.build_clip(len(tokenizer)), seed=seed),
        loss_of=training.contrastive_loss(images=images, tokens=tokens, batch=batch, seed=seed),
        budget=budget,
        path_to_checkpoint=path_to_checkpoint,
    )
    models.save_clip(trainer.average, path_to_clip)
    models.save_tokenizer(tokenizer, path_to_tokenizer)
    text_encoder = models.convert_text_tower(trainer.average, tokenizer)
    models.save_component(text_encoder, path_to_text_encoder)
    log = quality.record(
        seed=seed,
        training_scenes=training_scenes,
        budget=budget,
        curve=trainer.curve,
        quality=quality.clip_quality(trainer.average, images=held_out, tokens=held_out_tokens),
        margins=MARGINS,
    )
    storage.write_json(path_to_log, log)


if __name__ == "__main__":
    with runtime.job(snakemake) as settings:  # noqa: F821
        train_mini_clip(
            path_to_clip=Path(snakemake.output.clip[0]).parent,  # noqa: F821
            path_to_tokenizer=Path(snakemake.output.tokenizer[0]).parent,  # noqa: F821
            path_to_text_encoder=Path(snakemake.output.text_encoder[0]).parent,  # noqa: F821
            path_to_log=Path(snakemake.output.log),  # noqa: F821
            path_to_checkpoint=Path(snakemake.params.checkpoint),  # noqa: F821
            **settings,
        )
