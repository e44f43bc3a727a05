"""The linear control: voxels and a target enter, embeddings decoded by ridge regression leave."""

from pathlib import Path

import numpy as np

from neuraldiffuser import runtime, storage
from neuraldiffuser.config.decoder import RidgeSettings
from neuraldiffuser.decoders.data import refuse_test_images
from neuraldiffuser.decoders.embeddings import write_embeddings
from neuraldiffuser.decoders.prediction import Decoded
from neuraldiffuser.decoders.ridge import Ridge, fit_ridge
from neuraldiffuser.decoders.splits import validation_ids
from neuraldiffuser.nsd.voxels import read_voxels


def decode_by_ridge(
    *,
    path_to_voxels: Path | str,
    path_to_target: Path | str,
    path_to_embeddings: Path | str,
    settings: RidgeSettings,
    validation_images: int,
    missing_repeats: str,
    alignment: str,
    seed: int,
) -> None:
    """Decodes the images that the finetuned decoder decodes, from the mean of their trials.

    Args:
        path_to_voxels: ``voxels/{subject}.h5``.
        path_to_target: ``targets/{target}.h5``.
        path_to_embeddings: as ``embeddings/{target}/{subject}.h5``, without a projection; its
            attribute penalty is the one chosen.
        settings: penalties.
        validation_images: how many training images are held out, the same as from finetuning.
        missing_repeats: a name in ``repeats.MISSING_REPEATS``.
        alignment: a name in ``ALIGNMENTS``, the decoder's.
        seed: of the images held out.

    Raises:
        ConfigError: there are too few training images.
        DataError: an input is missing, damaged or not finite.
    """
    voxels = read_voxels(path_to_voxels)
    refuse_test_images(voxels.subject, voxels.training.id, voxels.test.id)
    held_out = validation_ids(voxels.training.id, count=validation_images, seed=seed)
    ids, betas = voxels.training.averaged(missing_repeats)
    test_ids, test_betas = voxels.test.averaged(missing_repeats)
    unseen = np.isin(ids, held_out)
    ridge = fit_ridge(
        betas[~unseen],
        storage.read_rows(path_to_target, ids[~unseen]),
        settings,
        device=runtime.execution().device,
    )
    rows = {"test": (test_ids, test_betas), "validation": (ids[unseen], betas[unseen])}
    target = Path(path_to_target).stem
    write_embeddings(
        path_to_embeddings,
        {group: decode(ridge, *images) for group, images in rows.items()},
        path_to_target=path_to_target,
        training_ids=ids,
        alignment=alignment,
        attributes={"target": target, "subject": voxels.subject, "penalty": ridge.penalty},
    )


def decode(ridge: Ridge, ids: np.ndarray, betas: np.ndarray) -> Decoded:
    """Embeddings of (n, voxels) rows; regression has no projection."""
    return Decoded(ids, ridge.predict(betas), np.empty((len(ids), 0), np.float32))


if __name__ == "__main__":
    with runtime.job(snakemake) as settings:  # noqa: F821
        decode_by_ridge(
            path_to_voxels=snakemake.input.voxels,  # noqa: F821
            path_to_target=snakemake.input.target,  # noqa: F821
            path_to_embeddings=snakemake.output.embeddings,  # noqa: F821
            **settings,
        )
