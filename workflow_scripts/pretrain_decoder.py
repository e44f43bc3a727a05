"""Trains a decoder on all subjects but one: voxels and a target enter, weights leave."""

from collections.abc import Sequence
from pathlib import Path

from neuraldiffuser import runtime
from neuraldiffuser.config.decoder import Recipe
from neuraldiffuser.decoders.data import read_trials
from neuraldiffuser.decoders.fitting import fit, new_decoder
from neuraldiffuser.decoders.parallel import launch


def pretrain_decoder(
    *,
    paths_to_voxels: Sequence[Path | str],
    path_to_target: Path | str,
    paths_to_teacher: Sequence[Path | str],
    path_to_decoder: Path | str,
    path_to_curve: Path | str,
    target: str,
    recipe: Recipe,
) -> None:
    """Trains on the training trials of all subjects given, in equal parts.

    Args:
        paths_to_voxels: ``voxels/{subject}.h5`` of every subject but the decoder's own.
        path_to_target: ``targets/{target}.h5``.
        paths_to_teacher: the stimuli and the weights of the recipe's teacher, if it has one.
        path_to_decoder: where the weights go.
        path_to_curve: where loss and learning rate of every step go.
        target: such as "clip_text".
        recipe: networks, losses, optimiser, budget and seed.

    Raises:
        DataError: an input is missing, damaged or not finite.
        TrainingError: the loss is not finite, or the job's time is up.
    """
    trials = read_trials(paths_to_voxels, path_to_target)
    fit(
        new_decoder(target, trials, recipe),
        trials,
        name=f"pretraining {target}",
        path_to_decoder=Path(path_to_decoder),
        path_to_curve=Path(path_to_curve),
        paths_to_teacher=paths_to_teacher,
    )


if __name__ == "__main__":
    with runtime.job(snakemake) as settings:  # noqa: F821
        launch(
            pretrain_decoder,
            paths_to_voxels=snakemake.input.voxels,  # noqa: F821
            path_to_target=snakemake.input.target,  # noqa: F821
            paths_to_teacher=[*snakemake.input.teacher, *snakemake.params.teacher],  # noqa: F821
            path_to_decoder=snakemake.output.decoder,  # noqa: F821
            path_to_curve=snakemake.output.curve,  # noqa: F821
            target=snakemake.wildcards.target,  # noqa: F821
            **settings,
        )
