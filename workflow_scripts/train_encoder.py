"""Fits a subject's brain-encoding model.

Voxels and stimuli enter; encoders/{subject}.safetensors (the model) and encoders/{subject}.h5 (its
accuracy on the test images, voxel by voxel, and its training curve) leave.
"""

from pathlib import Path

import numpy as np

from neuraldiffuser import runtime, storage
from neuraldiffuser.config.encoding import EncodingSettings
from neuraldiffuser.encoding.accuracy import correlate_voxels, summarise_accuracy
from neuraldiffuser.encoding.prediction import predict, save_encoder
from neuraldiffuser.encoding.training import SOURCES, Responses, hold_out
from neuraldiffuser.nsd.rois import regions
from neuraldiffuser.nsd.stimuli import read_images
from neuraldiffuser.nsd.voxels import Selection, read_voxels


def train_encoder(
    *,
    path_to_voxels: Path | str,
    path_to_stimuli: Path | str,
    path_to_encoder: Path | str,
    path_to_accuracy: Path | str,
    settings: EncodingSettings,
    seed: int,
) -> None:
    """Fits on training images, stops on held-out ones, and measures accuracy on test images."""
    voxels = read_voxels(path_to_voxels)
    ids, means = voxels.averaged("training")
    repeats = np.unique(voxels.training.id, return_counts=True)[1]
    responses = Responses(read_images(path_to_stimuli, ids), means, repeats)
    aside = hold_out(ids, count=settings.training.held_out_images, seed=seed)
    encoder, curve = SOURCES[settings.source](
        responses.choose(~aside),
        responses.choose(aside),
        settings=settings,
        seed=seed,
        device=runtime.execution().device,
    )
    test_ids, measured = voxels.averaged("test")
    correlation = correlate_voxels(
        predict(encoder, read_images(path_to_stimuli, test_ids)), measured
    )
    _log_accuracy(correlation, voxels.selection)
    save_encoder(
        path_to_encoder,
        encoder,
        settings=settings.network,
        metadata={"subject": voxels.subject, "held_out_ids": ids[aside].tolist()},
    )
    arrays = {
        "correlation": correlation.astype(np.float32),
        "noise_ceiling": voxels.selection.noise_ceiling,
        "roi": voxels.selection.roi,
        "index": voxels.selection.index,
    }
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
