"""Decodes test and validation images: a finetuned decoder and voxels enter, embeddings leave."""

from pathlib import Path

import numpy as np

from neuraldiffuser import runtime, storage
from neuraldiffuser.config.decoder import Prediction
from neuraldiffuser.decoders.alignment import align_all
from neuraldiffuser.decoders.prediction import TEST_AVERAGES, Decoding, select_trials
from neuraldiffuser.decoders.store import read_decoder
from neuraldiffuser.nsd.voxels import read_voxels


def predict_embeddings(
    *,
    path_to_voxels: Path | str,
    path_to_target: Path | str,
    path_to_decoder: Path | str,
    path_to_embeddings: Path | str,
    prediction: Prediction,
    test_average: str,
    missing_repeats: str,
    seed: int,
) -> None:
    """Writes decoded embeddings by image, aligned where the target is to be aligned.

    Args:
        path_to_voxels: ``voxels/{subject}.h5``.
        path_to_target: ``targets/{target}.h5``, for the statistics of the training targets.
        path_to_decoder: the subject's finetuned decoder.
        path_to_embeddings: groups ``test`` and ``validation``: id, embedding, projection,
            and unaligned where embedding is aligned.
        prediction: draws of the prior, alignment.
        test_average: a name in ``TEST_AVERAGES``.
        missing_repeats: a name in ``repeats.MISSING_REPEATS``.
        seed: of the prior's noise, with each image's id.

    Raises:
        DataError: an input is missing or damaged, or the decoder belongs to another subject.
    """
    decoder = read_decoder(Path(path_to_decoder), device=runtime.execution().device)
    voxels = read_voxels(path_to_voxels)
    trials = {
        "test": voxels.test,
        "validation": select_trials(voxels.training, decoder.validation_ids),
    }
    decoding = Decoding(decoder, voxels.subject, prediction, seed)
    average = TEST_AVERAGES[test_average]
    decoded = {group: average(decoding, rows, missing_repeats) for group, rows in trials.items()}
    arrays = {f"{group}/id": result.id for group, result in decoded.items()}
    arrays |= {f"{group}/embedding": result.embedding for group, result in decoded.items()}
    if decoded["test"].projection.shape[1]:
        arrays |= {f"{group}/projection": result.projection for group, result in decoded.items()}
    if decoder.target in prediction.aligned_targets and prediction.alignment != "none":
        fitted = np.setdiff1d(voxels.training.id, decoder.validation_ids)
        arrays |= {f"{group}/unaligned": result.embedding for group, result in decoded.items()}
        aligned = align_all(
            {group: result.embedding for group, result in decoded.items()},
            storage.read_rows(path_to_target, fitted),
            alignment=prediction.alignment,
        )
        arrays |= {f"{group}/embedding": rows for group, rows in aligned.items()}
    attributes = {"target": decoder.target, "subject": voxels.subject}
    storage.write_arrays(path_to_embeddings, arrays, attributes)


if __name__ == "__main__":
    with runtime.job(snakemake) as settings:  # noqa: F821
        predict_embeddings(
            path_to_voxels=snakemake.input.voxels,  # noqa: F821
            path_to_target=snakemake.input.target,  # noqa: F821
            path_to_decoder=snakemake.input.decoder,  # noqa: F821
            path_to_embeddings=snakemake.output.embeddings,  # noqa: F821
            **settings,
        )
