"""Lays out a contact sheet of one variant and subject: each stimulus beside all its repeats.

In: the stimuli, the variant's shards and, of a selection, which repeats it chose. Out: one picture
(PNG).
"""

from pathlib import Path

from neuraldiffuser import runtime, storage
from neuraldiffuser.reporting.gallery import draw_variant_sheet
from neuraldiffuser.reporting.sheets import encode_png


def make_gallery(
    *,
    path_to_stimuli: Path,
    paths_to_reconstructions: list[Path],
    paths_to_selection: list[Path],
    path_to_sheet: Path,
    images: int,
    width: int,
) -> None:
    """Writes the contact sheet of up to ``images`` test images, ``width`` pixels each."""
    sheet = draw_variant_sheet(
        path_to_stimuli=path_to_stimuli,
        paths_to_reconstructions=paths_to_reconstructions,
        paths_to_selection=paths_to_selection,
        images=images,
        width=width,
    )
    storage.write_bytes(path_to_sheet, encode_png(sheet))


if __name__ == "__main__":
    with runtime.job(snakemake) as settings:  # noqa: F821
        make_gallery(
            path_to_stimuli=snakemake.input.stimuli,  # noqa: F821
            paths_to_reconstructions=snakemake.input.reconstructions,  # noqa: F821
            paths_to_selection=snakemake.input.selection,  # noqa: F821
            path_to_sheet=snakemake.output.sheet,  # noqa: F821
            **settings,
        )
