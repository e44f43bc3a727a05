"""Makes a subject's brain-encoding model: fitted to its trials, or taken from the released one.

Voxels and stimuli enter, and the converted released model where the source asks for it;
encoders/{subject}.safetensors (the model) and encoders/{subject}.h5 (its accuracy voxel by voxel,
on the test images and on held-out training images, and its training curve) leave.
"""

from functools import partial
from pathlib import Path

import numpy as np

from neuraldiffuser import runtime, storage
from neuraldiffuser.config.encoding import EncodingSettings
from neuraldiffuser.decoders.splits import validation_ids
from neuraldiffuser.encoding.prediction import StoredEncoder, save_encoder
from neuraldiffuser.encoding.sources import SOURCES, Material
from neuraldiffuser.encoding.training import (
    Responses,
    hold_out,
    measure_accuracy,
    read_small_images,
)
from neuraldiffuser.nsd.voxels import read_voxels


def train_encoder(
    *,
    path_to_voxels: Path | str,
    path_to_stimuli: Path | str,
    path_to_released: Path | str | None,
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
        path_to_released: ``encoders/released_gnet.safetensors``, where ``settings.source`` is
            released: then nothing is fitted.
        path_to_encoder: metadata ``held_out_ids``, the training images on which fitting stopped,
            and ``unseen_ids``, those that the subject's decoders never saw either.
        path_to_accuracy: (voxels,) correlation on test images, held_out_correlation on the images
            of ``held_out_ids``, noise_ceiling, roi and index; (images,) trials and held_out_trials
            behind the responses to them; group ``curve``.
        settings: source, sizes and training.
        validation_images: how many training images no decoder of the subject sees.
        seed: of these images, the held-out ones, weights, order and dropout.

    Raises:
        ConfigError: too few images would be left to train on, or the settings are not those of the
            released model.
        DataError: the released model does not answer for these voxels.
        TrainingError: the loss is no longer finite, or the job's time is up.
    """
    voxels = read_voxels(path_to_voxels)
    ids, means = voxels.averaged("training")
    repeats = voxels.training.count_repeats()
    read = partial(read_small_images, path_to_stimuli, size=settings.network.image_size)
    unseen = np.isin(ids, validation_ids(ids, count=validation_images, seed=seed))
    watching = hold_out(ids, unseen=unseen, count=settings.training.held_out_images, seed=seed)

    def respond(rows: np.ndarray) -> Responses:
        return Responses(read(ids[rows]), means[rows], repeats[rows])

    held_out = respond(watching)
    path_to_checkpoint = Path(f"{path_to_encoder}.partial")
    network, curve = SOURCES[settings.source](
        Material(
            subject=voxels.subject,
            selection=voxels.selection,
            read_training=lambda: respond(~(unseen | watching)),
            held_out=held_out,
            path_to_checkpoint=path_to_checkpoint,
            path_to_released=path_to_released,
        ),
        settings=settings,
        seed=seed,
        device=runtime.execution().device,
    )
    save_encoder(
        path_to_encoder,
        StoredEncoder(
            network=network,
            subject=voxels.subject,
            index=voxels.selection.index,
            volume_shape=voxels.selection.volume_shape,
            source=settings.source,
        ),
        settings=settings.network,
        metadata={"held_out_ids": ids[watching].tolist(), "unseen_ids": ids[unseen].tolist()},
    )
    test_ids, measured = voxels.averaged("test")
    arrays = {
        "correlation": np.float32(measure_accuracy(network, read(test_ids), measured)),
        "held_out_correlation": np.float32(
            measure_accuracy(network, held_out.images, held_out.means)
        ),
        "trials": voxels.test.count_repeats(),
        "held_out_trials": held_out.repeats,
    }
    arrays |= {name: getattr(voxels.selection, name) for name in ("noise_ceiling", "roi", "index")}
    arrays |= {f"curve/{name}": curve[name].to_numpy() for name in curve}
    attributes = {"subject": voxels.subject, "source": settings.source}
    storage.write_arrays(path_to_accuracy, arrays, attributes | {"test_images": len(test_ids)})
    path_to_checkpoint.unlink(missing_ok=True)


if __name__ == "__main__":
    with runtime.job(snakemake) as settings:  # noqa: F821
        train_encoder(
            path_to_voxels=snakemake.input.voxels,  # noqa: F821
            path_to_stimuli=snakemake.input.stimuli,  # noqa: F821
            path_to_released=next(iter(snakemake.input.released), None),  # noqa: F821
            path_to_encoder=snakemake.output.encoder,  # noqa: F821
            path_to_accuracy=snakemake.output.accuracy,  # noqa: F821
            **settings,
        )
