"""Draws where a subject's voxels lie: regions and noise ceilings on the mean volume.

In: voxels and the mean functional volume. Out: the picture (PNG), the plotted rows (CSV) and the
words around it (JSON).
"""

from pathlib import Path

from neuraldiffuser import runtime
from neuraldiffuser.nsd.voxels import read_voxels
from neuraldiffuser.reporting import regions
from neuraldiffuser.reporting.result import write_figure


def draw_regions(
    *,
    path_to_voxels: Path | str,
    path_to_mean: Path | str | None,
    path_to_image: Path,
    path_to_data: Path,
    path_to_words: Path,
) -> None:
    """Writes the picture, its numbers and its words.

    Args:
        path_to_voxels: voxels/{subject}.h5.
        path_to_mean: the mean volume (x, y, z); None where an existing copy of NSD lacks it.
        path_to_image: where the picture goes.
        path_to_data: where the plotted rows go.
        path_to_words: where title, caption and alternative text go.
    """
    voxels = read_voxels(path_to_voxels)
    anatomy = regions.read_anatomy(path_to_mean, volume_shape=voxels.selection.volume_shape)
    drawn = regions.draw(voxels.subject, selection=voxels.selection, anatomy=anatomy)
    write_figure(
        drawn, path_to_image=path_to_image, path_to_data=path_to_data, path_to_words=path_to_words
    )


if __name__ == "__main__":
    with runtime.job(snakemake) as settings:  # noqa: F821
        draw_regions(
            path_to_voxels=snakemake.input.voxels,  # noqa: F821
            path_to_mean=snakemake.input.mean or None,  # noqa: F821
            path_to_image=snakemake.output.image,  # noqa: F821
            path_to_data=snakemake.output.data,  # noqa: F821
            path_to_words=snakemake.output.words,  # noqa: F821
            **settings,
        )
