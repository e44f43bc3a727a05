"""Cuts test and validation images out of a target: what a perfect decoder would have decoded."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from neuraldiffuser import runtime, storage
from neuraldiffuser.decoders.splits import validation_ids
from neuraldiffuser.features.origin import copy_origin


def collect_ground_truth(
    *,
    paths_to_voxels: Sequence[Path | str],
    path_to_target: Path | str,
    path_to_embeddings: Path | str,
    target: str,
    validation_images: int,
    seed: int,
) -> None:
    """Writes the true embeddings in the layout of decoded ones.

    Args:
        paths_to_voxels: ``voxels/{subject}.h5`` of the evaluated subjects, for their image ids.
        path_to_target: ``targets/{target}.h5``.
        path_to_embeddings: groups ``test`` (every test image of any subject) and ``validation``
            (a seeded choice of training images of all subjects): id, embedding.
        target: its name.
        validation_images: how many.
        seed: of the choice.

    Raises:
        ConfigError: there are not so many training images.
        DataError: an input is missing or damaged, or an image has no target.
    """
    ids = {
        split: np.unique(
            np.concatenate([storage.read_array(path, f"{split}/id") for path in paths_to_voxels])
        )
        for split in ("test", "training")
    }
    chosen = {
        "test": ids["test"],
        "validation": validation_ids(ids["training"], count=validation_images, seed=seed),
    }
    arrays = {f"{group}/id": rows for group, rows in chosen.items()}
    for group, rows in chosen.items():
        embedding = storage.read_rows(path_to_target, rows)
        arrays[f"{group}/embedding"] = embedding.astype(np.float32)
    attributes = {"target": target, "subject": "stimulus"} | copy_origin(path_to_target)
    storage.write_arrays(path_to_embeddings, arrays, attributes)


if __name__ == "__main__":
    with runtime.job(snakemake) as settings:  # noqa: F821
        collect_ground_truth(
            paths_to_voxels=snakemake.input.voxels,  # noqa: F821
            path_to_target=snakemake.input.target,  # noqa: F821
            path_to_embeddings=snakemake.output.embeddings,  # noqa: F821
            target=snakemake.wildcards.target,  # noqa: F821
            **settings,
        )
