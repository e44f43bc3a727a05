"""Makes the gallery's small pictures of the stimuli.

In: the stimuli, and what thumbnails of reconstructions there are. Out: a folder with two
pictures (WebP) per test image, small and large, and what stands in it (JSON).
"""

from pathlib import Path

from neuraldiffuser import runtime, storage
from neuraldiffuser.reporting.thumbnails import list_stimuli, write_strips


def make_stimulus_thumbnails(
    *,
    path_to_stimuli: Path,
    paths_to_contents: list[Path],
    path_to_folder: Path,
    path_to_contents: Path,
    width: int,
    enlarged: int,
) -> None:
    """Writes the stimulus of every image of which somebody has a reconstruction."""
    ids = {number for path in paths_to_contents for number in storage.read_json(path)["ids"]}
    rows = list_stimuli(path_to_stimuli, sorted(ids))
    contents = write_strips(rows, folder=Path(path_to_folder), width=width, enlarged=enlarged)
    storage.write_json(path_to_contents, contents)


if __name__ == "__main__":
    with runtime.job(snakemake) as settings:  # noqa: F821
        make_stimulus_thumbnails(
            path_to_stimuli=snakemake.input.stimuli,  # noqa: F821
            paths_to_contents=snakemake.input.contents,  # noqa: F821
            path_to_folder=snakemake.output.folder,  # noqa: F821
            path_to_contents=snakemake.output.contents,  # noqa: F821
            **settings,
        )
