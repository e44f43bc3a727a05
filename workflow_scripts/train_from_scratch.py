"""The control without pretraining: voxels and a target enter, weights leave.

What pretraining brings is the difference between this network and the finetuned one.
"""

from dataclasses import replace
from pathlib import Path

from neuraldiffuser import runtime
from neuraldiffuser.config.decoder import Recipe
from neuraldiffuser.decoders.data import read_own_trials
from neuraldiffuser.decoders.fitting import fit, new_decoder
from neuraldiffuser.decoders.parallel import launch


def train_from_scratch(
    *,
    path_to_voxels: Path | str,
    path_to_target: Path | str,
    path_to_decoder: Path | str,
    path_to_curve: Path | str,
    target: str,
    validation_images: int,
    recipe: Recipe,
) -> None:
    """Trains on all but the validation images as finetuning does, but from random weights.

    Args:
        path_to_voxels: ``voxels/{subject}.h5``.
        path_to_target: ``targets/{target}.h5``.
        path_to_decoder: where the weights go.
        path_to_curve: where loss and learning rate of every step go.
        target: such as "clip_text".
        validation_images: how many training images are held out, the same as from finetuning.
        recipe: of finetuning: networks, losses, optimiser, budget and seed.

    Raises:
        ConfigError: nothing is left to train on.
        DataError: an input is missing, damaged or not finite.
        TrainingError: the loss is not finite, or the job's time is up.
    """
    trials, held_out = read_own_trials(
        path_to_voxels, path_to_target, validation_images=validation_images, seed=recipe.seed
    )
    fit(
        replace(new_decoder(target, trials, recipe), validation_ids=held_out),
        trials,
        name=f"training {target} from scratch",
        path_to_decoder=Path(path_to_decoder),
        path_to_curve=Path(path_to_curve),
    )


if __name__ == "__main__":
    with runtime.job(snakemake) as settings:  # noqa: F821
        launch(
            train_from_scratch,
            path_to_voxels=snakemake.input.voxels,  # noqa: F821
            path_to_target=snakemake.input.target,  # noqa: F821
            path_to_decoder=snakemake.output.decoder,  # noqa: F821
            path_to_curve=snakemake.output.curve,  # noqa: F821
            target=snakemake.wildcards.target,  # noqa: F821
            **settings,
        )
