"""The control without pretraining: voxels and a target enter, embeddings and a curve leave.

What pretraining brings is the difference between this network and the finetuned one.
"""

from dataclasses import replace
from pathlib import Path

from neuraldiffuser import runtime
from neuraldiffuser.config.decoder import Prediction, Recipe
from neuraldiffuser.decoders.data import read_own_trials
from neuraldiffuser.decoders.embeddings import decode_unseen, write_embeddings
from neuraldiffuser.decoders.fitting import fit, new_decoder
from neuraldiffuser.decoders.parallel import launch
from neuraldiffuser.decoders.store import read_decoder
from neuraldiffuser.nsd.voxels import read_voxels


def decode_from_scratch(
    *,
    path_to_voxels: Path | str,
    path_to_target: Path | str,
    path_to_embeddings: Path | str,
    path_to_curve: Path | str,
    validation_images: int,
    recipe: Recipe,
    prediction: Prediction,
    test_average: str,
    missing_repeats: str,
) -> None:
    """Trains and predicts as for a finetuned decoder, but from random weights, which it drops.

    Args:
        path_to_voxels: ``voxels/{subject}.h5``.
        path_to_target: ``targets/{target}.h5``.
        path_to_embeddings: as ``embeddings/{target}/{subject}.h5``.
        path_to_curve: where loss and learning rate of every step go.
        validation_images: how many training images are held out, the same as from finetuning.
        recipe: of finetuning: networks, losses, optimiser, budget and seed.
        prediction: draws of the prior, alignment.
        test_average: a name in ``TEST_AVERAGES``.
        missing_repeats: a name in ``repeats.MISSING_REPEATS``.

    Raises:
        ConfigError: nothing is left to train on.
        DataError: an input is missing, damaged or not finite.
        TrainingError: the loss is not finite, or the job's time is up.
    """
    path_to_decoder = Path(path_to_embeddings).with_suffix(".safetensors")
    launch(
        train_from_scratch,
        path_to_voxels=path_to_voxels,
        path_to_target=path_to_target,
        path_to_decoder=path_to_decoder,
        path_to_curve=path_to_curve,
        validation_images=validation_images,
        recipe=recipe,
    )
    decoder = read_decoder(path_to_decoder, device=runtime.execution().device)
    voxels = read_voxels(path_to_voxels)
    decoded = decode_unseen(
        decoder,
        voxels,
        prediction=prediction,
        test_average=test_average,
        missing_repeats=missing_repeats,
        seed=recipe.seed,
    )
    write_embeddings(
        path_to_embeddings,
        decoded,
        path_to_target=path_to_target,
        training_ids=voxels.training.id,
        alignment=prediction.alignments.get(decoder.target, "none"),
        attributes={"target": decoder.target, "subject": voxels.subject},
    )
    path_to_decoder.unlink()


def train_from_scratch(
    *,
    path_to_voxels: Path | str,
    path_to_target: Path | str,
    path_to_decoder: Path,
    path_to_curve: Path | str,
    validation_images: int,
    recipe: Recipe,
) -> None:
    """Trains on all but the validation images, as finetuning does; arguments as above."""
    trials, held_out = read_own_trials(
        path_to_voxels, path_to_target, validation_images=validation_images, seed=recipe.seed
    )
    decoder = new_decoder(Path(path_to_target).stem, trials, recipe)
    fit(
        replace(decoder, validation_ids=held_out),
        trials,
        name=f"training {decoder.target} from scratch",
        path_to_decoder=path_to_decoder,
        path_to_curve=Path(path_to_curve),
    )


if __name__ == "__main__":
    with runtime.job(snakemake) as settings:  # noqa: F821
        decode_from_scratch(
            path_to_voxels=snakemake.input.voxels,  # noqa: F821
            path_to_target=snakemake.input.target,  # noqa: F821
            path_to_embeddings=snakemake.output.embeddings,  # noqa: F821
            path_to_curve=snakemake.output.curve,  # noqa: F821
            **settings,
        )
