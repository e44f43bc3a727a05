"""Brain correlation of reconstructed images.

In: a variant's shards, of a subject or from ground truth, and, of a selection, which repeats it
chose; the voxels and the encoder of the subject whose brain judges. Out: one value per image,
repeat and brain correlation.
"""

from pathlib import Path

from neuraldiffuser import runtime, storage
from neuraldiffuser.config.guidance import EncoderSettings, Region
from neuraldiffuser.diffusion.store import read_reconstructions
from neuraldiffuser.encoding.prediction import load_encoder
from neuraldiffuser.evaluation.brain import judge_images
from neuraldiffuser.nsd.voxels import read_voxels


def evaluate_brain(
    *,
    path_to_reconstructions: list[Path],
    path_to_selection: Path | None,
    path_to_voxels: Path,
    path_to_encoder: Path,
    path_to_brain: Path,
    regions: tuple[Region, ...],
    share: float,
    seed: int,
) -> None:
    """Writes the brain correlations of one variant or selection and subject.

    Args:
        path_to_reconstructions: the images that are judged.
        path_to_selection: which of their repeats, or None for all.
        path_to_voxels: ``voxels/{subject}.h5`` of the brain that judges.
        path_to_encoder: its encoder.
        path_to_brain: the values go there.
        regions, share, seed: which voxels guide where the encoder guides; the others alone judge
            under names of their own.
    """
    ids, images = read_reconstructions(path_to_reconstructions, path_to_selection)
    table = judge_images(
        ids,
        images,
        voxels=read_voxels(path_to_voxels),
        encoder=load_encoder(path_to_encoder, device=runtime.execution().device),
        guiding=EncoderSettings(regions=regions, share=share),
        seed=seed,
    )
    storage.write_table(path_to_brain, table)


if __name__ == "__main__":
    with runtime.job(snakemake) as settings:  # noqa: F821
        evaluate_brain(
            path_to_reconstructions=snakemake.input.reconstructions,  # noqa: F821
            path_to_selection=next(iter(snakemake.input.selection), None),  # noqa: F821
            path_to_voxels=snakemake.input.voxels,  # noqa: F821
            path_to_encoder=snakemake.input.encoder,  # noqa: F821
            path_to_brain=snakemake.output.brain,  # noqa: F821
            **settings,
        )
