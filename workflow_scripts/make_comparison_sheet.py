"""Lays out a contact sheet of one subject: each stimulus beside all repeats of all variants.

In: the stimuli, the shards of every variant of the subject, what selections chose among them. Out:
one picture (JPEG), which the report embeds.
"""

from pathlib import Path

from neuraldiffuser import runtime, storage
from neuraldiffuser.reporting.gallery import draw_comparison_sheet
from neuraldiffuser.reporting.sheets import encode_jpeg


def make_comparison_sheet(
    *,
    path_to_stimuli: Path,
    paths_to_reconstructions: list[Path],
    paths_to_selections: list[Path],
    path_to_sheet: Path,
    makers: dict[str, str],
    images: int,
) -> None:
    """Writes the contact sheet of up to ``images`` test images, in small pictures."""
    sheet = draw_comparison_sheet(
        path_to_stimuli=path_to_stimuli,
        paths_to_reconstructions=paths_to_reconstructions,
        paths_to_selections=paths_to_selections,
        makers=makers,
        images=images,
    )
    storage.write_bytes(path_to_sheet, encode_jpeg(sheet))


if __name__ == "__main__":
    with runtime.job(snakemake) as settings:  # noqa: F821
        make_comparison_sheet(
            path_to_stimuli=snakemake.input.stimuli,  # noqa: F821
            paths_to_reconstructions=snakemake.input.reconstructions,  # noqa: F821
            paths_to_selections=snakemake.input.selections,  # noqa: F821
            path_to_sheet=snakemake.output.sheet,  # noqa: F821
            makers=snakemake.params.makers,  # noqa: F821
            **settings,
        )
