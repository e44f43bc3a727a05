"""Brain correlation of the stimuli themselves, which no reconstruction should surpass.

In: the test stimuli, the voxels and the encoder of a subject. Out: one value per image and brain
correlation, as if the stimulus were its own reconstruction.
"""

from pathlib import Path

import numpy as np

from neuraldiffuser import runtime, storage
from neuraldiffuser.config.guidance import EncoderSettings, Region
from neuraldiffuser.encoding.prediction import load_encoder
from neuraldiffuser.encoding.training import read_small_images
from neuraldiffuser.evaluation.brain import judge_images
from neuraldiffuser.nsd.voxels import read_voxels


def evaluate_brain_of_stimuli(
    *,
    path_to_stimuli: Path,
    path_to_voxels: Path,
    path_to_encoder: Path,
    path_to_brain: Path,
    regions: tuple[Region, ...],
    share: float,
    seed: int,
) -> None:
    """Writes the brain correlations of the test stimuli for one subject.

    Args:
        path_to_stimuli: the stimulus file.
        path_to_voxels: ``voxels/{subject}.h5``; its test images are judged.
        path_to_encoder: the subject's encoder.
        path_to_brain: the values go there.
        regions, share, seed: as in ``evaluate_brain``.
    """
    voxels = read_voxels(path_to_voxels)
    encoder = load_encoder(path_to_encoder, device=runtime.execution().device)
    ids = np.unique(voxels.test.id)
    stimuli = read_small_images(path_to_stimuli, ids, size=encoder.network.image_size)
    table = judge_images(
        ids,
        stimuli[:, None],
        voxels=voxels,
        encoder=encoder,
        guiding=EncoderSettings(regions=regions, share=share),
        seed=seed,
    )
    storage.write_table(path_to_brain, table)


if __name__ == "__main__":
    with runtime.job(snakemake) as settings:  # noqa: F821
        evaluate_brain_of_stimuli(
            path_to_stimuli=snakemake.input.stimuli,  # noqa: F821
            path_to_voxels=snakemake.input.voxels,  # noqa: F821
            path_to_encoder=snakemake.input.encoder,  # noqa: F821
            path_to_brain=snakemake.output.brain,  # noqa: F821
            **settings,
        )
