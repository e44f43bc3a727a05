"""How well a subject's encoding model does in each visual area, beside the noise ceiling.

In: its accuracy voxel by voxel. Out: a row per split of the images and area.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from neuraldiffuser import runtime, storage
from neuraldiffuser.config.evaluation import BootstrapSettings
from neuraldiffuser.encoding.sources import NOTES
from neuraldiffuser.evaluation.brain import Ceilings, find_areas
from neuraldiffuser.evaluation.encoder_accuracy import summarise_accuracy

SPLITS = {"test": "", "held_out": "held_out_"}  # what the names of their arrays begin with


def evaluate_encoder(
    *, path_to_voxelwise: Path, path_to_accuracy: Path, bootstrap: BootstrapSettings
) -> None:
    """Writes the accuracy of one subject's encoding model.

    Args:
        path_to_voxelwise: ``encoders/{subject}.h5``.
        path_to_accuracy: the table of ``summarise_accuracy``, with the split of the images (test
            or held_out) and a note on what these images were to the model.
        bootstrap: of the intervals over voxels.
    """

    def read(name: str) -> np.ndarray:
        return storage.read_array(path_to_voxelwise, name)

    notes = NOTES[storage.read_attributes(path_to_voxelwise)["source"]]
    tables = [
        summarise_accuracy(
            read(f"{prefix}correlation"),
            ceilings=Ceilings(percent=read("noise_ceiling"), trials=read(f"{prefix}trials")),
            areas=find_areas(read("roi")),
            bootstrap=bootstrap,
        ).assign(split=split, note=notes[split])
        for split, prefix in SPLITS.items()
    ]
    table = pd.concat(tables, ignore_index=True)
    storage.write_table(path_to_accuracy, table)
    for row in table[table["split"] == "test"].itertuples():
        runtime.logger.info(
            "%s: mean r %.2f, ceiling %.2f, over %d voxels",
            *(row.area, row.correlation, row.ceiling, row.voxels),
        )


if __name__ == "__main__":
    with runtime.job(snakemake) as settings:  # noqa: F821
        evaluate_encoder(
            path_to_voxelwise=snakemake.input.voxelwise,  # noqa: F821
            path_to_accuracy=snakemake.output.accuracy,  # noqa: F821
            **settings,
        )
