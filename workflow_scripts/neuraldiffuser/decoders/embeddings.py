"""Decoded embeddings of the images that a decoder never saw, and the file that holds them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from neuraldiffuser import storage
from neuraldiffuser.config.decoder import PriorSampling
from neuraldiffuser.decoders.alignment import align_all
from neuraldiffuser.decoders.prediction import TEST_AVERAGES, Decoded, Decoding, select_trials
from neuraldiffuser.decoders.store import Decoder
from neuraldiffuser.features.origin import copy_origin
from neuraldiffuser.nsd.voxels import Voxels


def decode_unseen(
    decoder: Decoder,
    voxels: Voxels,
    *,
    prior_sampling: PriorSampling,
    test_average: str,
    missing_repeats: str,
    seed: int,
) -> dict[str, Decoded]:
    """Decodes the subject's ``test`` images and the decoder's ``validation`` images.

    Args:
        decoder: trained on the subject.
        voxels: of the subject.
        prior_sampling: draws and steps of the prior.
        test_average: a name in ``TEST_AVERAGES``.
        missing_repeats: a name in ``repeats.MISSING_REPEATS``.
        seed: of the prior's noise, with each image's id.
    """
    decoding = Decoding(decoder, voxels.subject, prior_sampling, seed)
    average = TEST_AVERAGES[test_average]
    trials = {
        "test": voxels.test,
        "validation": select_trials(voxels.training, decoder.validation_ids),
    }
    return {group: average(decoding, rows, missing_repeats) for group, rows in trials.items()}


def write_embeddings(
    path: Path | str,
    decoded: Mapping[str, Decoded],
    *,
    path_to_target: Path | str,
    training_ids: np.ndarray,
    alignment: str,
    attributes: Mapping[str, Any],
) -> None:
    """Writes decoded embeddings by image, aligned if they are to be aligned.

    Args:
        path: groups ``test`` and ``validation``: id, embedding, projection where there is one,
            and unaligned where embedding is aligned.
        decoded: the groups.
        path_to_target: ``targets/{target}.h5``, for the statistics of the training targets; what
            it says about how the target was made is passed on.
        training_ids: (n,) 73k ids of training images, repeated or not.
        alignment: a name in ``ALIGNMENTS``; its target statistics leave validation images out.
        attributes: of the file.

    Raises:
        DataError: a training image has no target, or an embedding is not finite.
    """
    arrays = {f"{group}/id": result.id for group, result in decoded.items()}
    arrays |= {f"{group}/embedding": result.embedding for group, result in decoded.items()}
    if decoded["test"].projection.shape[1]:
        arrays |= {f"{group}/projection": result.projection for group, result in decoded.items()}
    if alignment != "none":
        arrays |= {f"{group}/unaligned": result.embedding for group, result in decoded.items()}
        aligned = align_all(
            {group: result.embedding for group, result in decoded.items()},
            storage.read_rows(path_to_target, np.setdiff1d(training_ids, decoded["validation"].id)),
            alignment=alignment,
        )
        arrays |= {f"{group}/embedding": rows for group, rows in aligned.items()}
    storage.write_arrays(path, arrays, copy_origin(path_to_target) | dict(attributes))
