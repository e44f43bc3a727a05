"""Makes the gallery's small pictures of one variant and subject.

In: the variant's shards and, of a selection, which repeats it chose. Out: a folder with two
strips of all repeats (WebP) per test image, small and large, and what stands in it (JSON).
"""

from pathlib import Path

from neuraldiffuser import runtime, storage
from neuraldiffuser.reporting.thumbnails import list_reconstructions, write_strips


def make_thumbnails(
    *,
    paths_to_reconstructions: list[Path],
    paths_to_selection: list[Path],
    path_to_folder: Path,
    path_to_contents: Path,
    width: int,
    enlarged: int,
) -> None:
    """Writes the strips, pictures at most ``width`` and ``enlarged`` pixels wide."""
    rows = list_reconstructions(paths_to_reconstructions, paths_to_selection)
    contents = write_strips(rows, folder=Path(path_to_folder), width=width, enlarged=enlarged)
    storage.write_json(path_to_contents, contents)


if __name__ == "__main__":
    with runtime.job(snakemake) as settings:  # noqa: F821
        make_thumbnails(
            paths_to_reconstructions=snakemake.input.reconstructions,  # noqa: F821
            paths_to_selection=snakemake.input.selection,  # noqa: F821
            path_to_folder=snakemake.output.folder,  # noqa: F821
            path_to_contents=snakemake.output.contents,  # noqa: F821
            **settings,
        )
