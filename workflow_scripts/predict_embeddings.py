"""Decodes test and validation images: a trained decoder and voxels enter, embeddings leave."""

from pathlib import Path

from neuraldiffuser import runtime
from neuraldiffuser.config.decoder import PriorSampling
from neuraldiffuser.decoders.embeddings import decode_unseen, write_embeddings
from neuraldiffuser.decoders.store import read_decoder
from neuraldiffuser.nsd.voxels import read_voxels


def predict_embeddings(
    *,
    path_to_voxels: Path | str,
    path_to_target: Path | str,
    path_to_decoder: Path | str,
    path_to_embeddings: Path | str,
    prior_sampling: PriorSampling,
    alignment: str,
    test_average: str,
    missing_repeats: str,
    seed: int,
) -> None:
    """Writes decoded embeddings by image, aligned where the target is to be aligned.

    Args:
        path_to_voxels: ``voxels/{subject}.h5``.
        path_to_target: ``targets/{target}.h5``, for the statistics of the training targets.
        path_to_decoder: the subject's decoder, finetuned or trained from scratch.
        path_to_embeddings: groups ``test`` and ``validation``: id, embedding, projection,
            and unaligned where embedding is aligned.
        prior_sampling: draws and steps of the prior.
        alignment: a name in ``ALIGNMENTS``.
        test_average: a name in ``TEST_AVERAGES``.
        missing_repeats: a name in ``repeats.MISSING_REPEATS``.
        seed: of the prior's noise, with each image's id.

    Raises:
        DataError: an input is missing or damaged, or the decoder belongs to another subject.
    """
    decoder = read_decoder(Path(path_to_decoder), device=runtime.execution().device)
    voxels = read_voxels(path_to_voxels)
    decoded = decode_unseen(
        decoder,
        voxels,
        prior_sampling=prior_sampling,
        test_average=test_average,
        missing_repeats=missing_repeats,
        seed=seed,
    )
    write_embeddings(
        path_to_embeddings,
        decoded,
        path_to_target=path_to_target,
        training_ids=voxels.training.id,
        alignment=alignment,
        attributes={"target": decoder.target, "subject": voxels.subject},
    )


if __name__ == "__main__":
    with runtime.job(snakemake) as settings:  # noqa: F821
        predict_embeddings(
            path_to_voxels=snakemake.input.voxels,  # noqa: F821
            path_to_target=snakemake.input.target,  # noqa: F821
            path_to_decoder=snakemake.input.decoder,  # noqa: F821
            path_to_embeddings=snakemake.output.embeddings,  # noqa: F821
            **settings,
        )
