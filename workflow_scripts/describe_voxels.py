"""From the voxels of all subjects to the data card: voxels, noise ceilings and trials per area."""

from collections.abc import Sequence
from pathlib import Path

from neuraldiffuser import runtime, storage
from neuraldiffuser.nsd import data_card
from neuraldiffuser.nsd.voxels import read_voxels


def describe_voxels(*, paths_to_voxels: Sequence[Path | str], path_to_card: Path | str) -> None:
    """Writes the data card as CSV, one row per subject and area.

    Args:
        paths_to_voxels: voxels/{subject}.h5 of all subjects.
        path_to_card: where the table goes.
    """
    paths = runtime.progress(paths_to_voxels, description="describing voxels", unit="subject")
    storage.write_table(path_to_card, data_card.describe(read_voxels(path) for path in paths))


if __name__ == "__main__":
    with runtime.job(snakemake) as settings:  # noqa: F821
        describe_voxels(
            paths_to_voxels=snakemake.input.voxels,  # noqa: F821
            path_to_card=snakemake.output.card,  # noqa: F821
            **settings,
        )
