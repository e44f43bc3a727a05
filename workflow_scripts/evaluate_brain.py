"""Brain correlation of reconstructed images.

In: a variant's shards of a subject and, of a selection, which repeats it chose; the subject's
voxels and encoder. Out: one value per image, repeat and brain correlation.
"""

from pathlib import Path

from neuraldiffuser import runtime, storage
from neuraldiffuser.diffusion.store import read_reconstructions
from neuraldiffuser.encoding.prediction import load_encoder, predict
from neuraldiffuser.evaluation.brain import measure_brain, rows_of
from neuraldiffuser.evaluation.long_form import to_long_form
from neuraldiffuser.nsd.voxels import read_voxels


def evaluate_brain(
    *,
    path_to_reconstructions: list[Path],
    path_to_selection: Path | None,
    path_to_voxels: Path,
    path_to_encoder: Path,
    path_to_brain: Path,
) -> None:
    """Writes the brain correlations of one variant or selection and subject."""
    ids, images = read_reconstructions(path_to_reconstructions, path_to_selection)
    voxels = read_voxels(path_to_voxels)
    encoder = load_encoder(path_to_encoder, device=runtime.execution().device)
    predicted = predict(encoder, images.reshape(-1, *images.shape[2:]))
    values = measure_brain(
        rows_of(ids, *voxels.averaged("test")),
        predicted.reshape(*images.shape[:2], -1),
        labels=voxels.selection.roi,
        noise_ceiling=voxels.selection.noise_ceiling,
    )
    storage.write_table(path_to_brain, to_long_form(ids, values))


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
