"""Fits a subject's brain-encoding model.

Voxels and stimuli enter; encoders/{subject}.safetensors (the model) and encoders/{subject}.h5 (its
accuracy voxel by voxel, on the test images and on held-out training images, and its training curve)
leave.
"""

from functools import partial
from pathlib import Path

import numpy as np

from neuraldiffuser import runtime, storage
from neuraldiffuser.config.encoding import EncodingSettings
from neuraldiffuser.decoders.splits import validation_ids
from neuraldiffuser.encoding.accuracy import summarise_accuracy
from neuraldiffuser.encoding.prediction import save_encoder
from neuraldiffuser.encoding.training import (
    SOURCES,
    Responses,
    hold_out,
    measure_accuracy,
    read_small_images,
)
from neuraldiffuser.nsd.rois import regions
from neuraldiffuser.nsd.voxels import Selection, read_voxels


def train_encoder(
    *,
    path_to_voxels: Path | str,
    path_to_stimuli: Path | str,
    path_to_encoder: Path | str,
    path_to_accuracy: Path | str,
    settings: EncodingSettings,
    validation_images: int,
    seed: int,
) -> None:
    """Fits on training images, stops on held-out ones, and measures accuracy on test images.

    Args:
        path_to_voxels: ``voxels/{subject}.h5``.
        path_to_stimuli: the stimulus file.
        path_to_encoder: metadata ``held_out_ids``, the training images on which fitting stopped,
            and ``unseen_ids``, those that the subject's decoders never saw either.
        path_to_accuracy: (voxels,) correlation on test images, held_out_correlation on the images
            of ``held_out_ids``, noise_ceiling, roi and index; group ``curve``.
        settings: sizes and training.
        validation_images: how many training images no decoder of the subject sees.
        seed: of these images, the held-out ones, weights, order and dropout.

    Raises:
        ConfigError: too few images would be left to train on.
        TrainingError: the loss is no longer finite.
    """
    voxels = read_voxels(path_to_voxels)
    ids, means = voxels.averaged("training")
    repeats = np.unique(voxels.training.id, return_counts=True)[1]
    read = partial(read_small_images, path_to_stimuli, size=settings.network.image_size)
    unseen = np.isin(ids, validation_ids(ids, count=validation_images, seed=seed))
    watching = hold_out(ids, unseen=unseen, count=settings.training.held_out_images, seed=seed)
    training, held_out = (
        Responses(read(ids[rows]), means[rows], repeats[rows])
        for rows in (~(unseen | watching), watching)
    )
    encoder, curve = SOURCES[settings.source](
        training,
        held_out,
        settings=settings,
        seed=seed,
        device=runtime.execution().device,
    )
    save_encoder(
        path_to_encoder,
        encoder,
        settings=settings.network,
        metadata={
            "subject": voxels.subject,
            "held_out_ids": ids[watching].tolist(),
            "unseen_ids": ids[unseen].tolist(),
        },
    )
    test_ids, measured = voxels.averaged("test")
    correlation = {
        "correlation": measure_accuracy(encoder, read(test_ids), measured),
        "held_out_correlation": measure_accuracy(encoder, held_out.images, held_out.means),
    }
    _log_accuracy(correlation["correlation"], voxels.selection)
    arrays = {name: values.astype(np.float32) for name, values in correlation.items()}
    arrays |= {name: getattr(voxels.selection, name) for name in ("noise_ceiling", "roi", "index")}
    arrays |= {f"curve/{name}": curve[name].to_numpy() for name in curve}
    attributes = {"subject": voxels.subject, "test_images": len(test_ids)}
    storage.write_arrays(path_to_accuracy, arrays, attributes)


def _log_accuracy(correlation: np.ndarray, selection: Selection) -> None:
    summary = summarise_accuracy(
        correlation, noise_ceiling=selection.noise_ceiling, regions=regions(selection.roi)
    )
    for row in summary.itertuples():
        runtime.logger.info(
            "%s: mean r %.2f, ceiling %.2f, over %d reliable voxels",
            row.region,
            row.correlation,
            row.ceiling,
            row.voxels,
        )


if __name__ == "__main__":
    with runtime.job(snakemake) as settings:  # noqa: F821
        train_encoder(
            path_to_voxels=snakemake.input.voxels,  # noqa: F821
            path_to_stimuli=snakemake.input.stimuli,  # noqa: F821
            path_to_encoder=snakemake.output.encoder,  # noqa: F821
            path_to_accuracy=snakemake.output.accuracy,  # noqa: F821
            **settings,
        )
