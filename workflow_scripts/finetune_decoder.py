"""Trains a pretrained decoder on one subject: its voxels and the core enter, weights leave."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from neuraldiffuser import runtime
from neuraldiffuser.config.decoder import Recipe
from neuraldiffuser.decoders.data import read_own_trials
from neuraldiffuser.decoders.fitting import continue_from, fit
from neuraldiffuser.decoders.parallel import launch


def finetune_decoder(
    *,
    path_to_voxels: Path | str,
    path_to_target: Path | str,
    path_to_pretrained: Path | str,
    paths_to_teacher: Sequence[Path | str],
    path_to_decoder: Path | str,
    path_to_curve: Path | str,
    validation_images: int,
    recipe: Recipe,
) -> None:
    """Trains the whole network, with a fresh voxel encoder, on all but the validation images.

    Args:
        path_to_voxels: ``voxels/{subject}.h5`` of the decoder's own subject.
        path_to_target: ``targets/{target}.h5``.
        path_to_pretrained: the network pretrained on the other subjects.
        paths_to_teacher: as for pretraining.
        path_to_decoder: where the weights go.
        path_to_curve: where loss and learning rate of every step go.
        validation_images: how many training images are held out.
        recipe: networks, losses, optimiser, budget and seed.

    Raises:
        ConfigError: nothing is left to train on.
        DataError: an input is missing, damaged, not finite, or of another architecture.
        TrainingError: the loss is not finite, or the job's time is up.
    """
    trials, held_out = read_own_trials(
        path_to_voxels, path_to_target, validation_images=validation_images, seed=recipe.seed
    )
    decoder = continue_from(Path(path_to_pretrained), trials, recipe)
    fit(
        replace(decoder, validation_ids=held_out),
        trials,
        name=f"finetuning {decoder.target}",
        path_to_decoder=Path(path_to_decoder),
        path_to_curve=Path(path_to_curve),
        paths_to_teacher=paths_to_teacher,
    )


if __name__ == "__main__":
    with runtime.job(snakemake) as settings:  # noqa: F821
        launch(
            finetune_decoder,
            path_to_voxels=snakemake.input.voxels,  # noqa: F821
            path_to_target=snakemake.input.target,  # noqa: F821
            path_to_pretrained=snakemake.input.pretrained,  # noqa: F821
            paths_to_teacher=[*snakemake.input.teacher, *snakemake.params.teacher],  # noqa: F821
            path_to_decoder=snakemake.output.decoder,  # noqa: F821
            path_to_curve=snakemake.output.curve,  # noqa: F821
            **settings,
        )
