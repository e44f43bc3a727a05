"""From the voxels of all subjects to the data card: sessions, regions, noise ceilings, trials.

In: voxels/{subject}.h5 of all subjects. Out: three tables (CSV), one row per subject, per subject
and region, and per subject and split.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from neuraldiffuser import runtime, storage
from neuraldiffuser.nsd import data_card
from neuraldiffuser.nsd.voxels import read_voxels


def describe_voxels(
    *, paths_to_voxels: Sequence[Path | str], paths_to_tables: Mapping[str, Path | str]
) -> None:
    """Writes the data card.

    Args:
        paths_to_voxels: voxels/{subject}.h5 of all subjects.
        paths_to_tables: where the tables "subjects", "regions" and "trials" go.
    """
    paths = runtime.progress(paths_to_voxels, description="describing voxels", unit="subject")
    card = data_card.describe(read_voxels(path) for path in paths)
    for name, path in paths_to_tables.items():
        storage.write_table(path, getattr(card, name))


if __name__ == "__main__":
    with runtime.job(snakemake) as settings:  # noqa: F821
        describe_voxels(
            paths_to_voxels=snakemake.input.voxels,  # noqa: F821
            paths_to_tables=dict(snakemake.output.items()),  # noqa: F821
            **settings,
        )
