"""Measures reconstructed images against their stimuli.

In: a variant's shards of a subject and, of a selection, which repeats it chose; the stimuli, the
weights of the judging networks. Out: one value per image, repeat and metric; and one per metric of
the whole set, or why there is none.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from neuraldiffuser import runtime, storage
from neuraldiffuser.config.evaluation import Judge, Measures
from neuraldiffuser.diffusion.store import read_reconstructions
from neuraldiffuser.evaluation.features import measure_networks, network_loader
from neuraldiffuser.evaluation.images import constant_images, name_ids, read_stimuli
from neuraldiffuser.evaluation.long_form import to_long_form
from neuraldiffuser.evaluation.metrics import SET_MEASURES
from neuraldiffuser.evaluation.pixels import measure_pixels


def evaluate_reconstructions(
    *,
    path_to_reconstructions: list[Path],
    path_to_selection: Path | None,
    path_to_stimuli: Path,
    places: Mapping[str, Path | str],
    path_to_images: Path,
    path_to_sets: Path,
    measures: Measures,
    loaders: Mapping[str, str],
) -> None:
    """Writes every metric of one variant or selection and subject that needs nothing but images.

    Args:
        path_to_reconstructions: shards.
        path_to_selection: which repeat of each image is measured; None for all of them.
        path_to_stimuli: NSD's file.
        places: where the weights of each judging model lie.
        path_to_images: one value per image, repeat and metric go there.
        path_to_sets: metrics of the whole set go there.
        measures: networks, judges and conventions.
        loaders: how each judging model is read.
    """
    ids, reconstructions = read_reconstructions(path_to_reconstructions, path_to_selection)
    stimuli = read_stimuli(path_to_stimuli, ids)
    _warn_of_constant(ids, reconstructions)
    judges = [judge for judge in measures.judges if judge.minimum_images <= len(ids)]
    values = measure_pixels(
        stimuli,
        reconstructions,
        sizes=(measures.first_resize, measures.image_size),
    )
    values |= measure_networks(
        stimuli,
        reconstructions,
        load=network_loader(measures.networks, loaders=loaders, places=places),
        judges=judges,
        first_resize=measures.first_resize,
    )
    by_image = {name: found for name, found in values.items() if isinstance(found, np.ndarray)}
    storage.write_table(path_to_images, to_long_form(ids, by_image))
    storage.write_table(path_to_sets, tabulate_sets(measures.judges, values, number=len(ids)))


def _warn_of_constant(ids: np.ndarray, reconstructions: np.ndarray) -> None:
    flat = reconstructions.reshape(-1, *reconstructions.shape[2:])
    constant = constant_images(flat).reshape(reconstructions.shape[:2]).any(axis=1)
    if constant.any():
        runtime.logger.warning(
            "reconstructions of the images %s are of one colour; their correlations count as 0.",
            name_ids(ids[constant]),
        )


def tabulate_sets(
    judges: tuple[Judge, ...], values: dict[str, np.ndarray | float], *, number: int
) -> pd.DataFrame:
    """Metrics of the whole set, and any metric that ``number`` images are too few for."""
    rows = []
    for judge in judges:
        if judge.minimum_images > number:
            note = f"not computed: {number} images, at least {judge.minimum_images} are needed"
            rows.append((judge.name, np.nan, number, note))
        elif judge.measure in SET_MEASURES:
            note = f"biased by the finite sample of {number} images; mean over repeats"
            rows.append((judge.name, values[judge.name], number, note))
    return pd.DataFrame(rows, columns=["metric", "value", "n", "note"])


if __name__ == "__main__":
    with runtime.job(snakemake) as settings:  # noqa: F821
        evaluate_reconstructions(
            path_to_reconstructions=snakemake.input.reconstructions,  # noqa: F821
            path_to_selection=next(iter(snakemake.input.selection), None),  # noqa: F821
            path_to_stimuli=snakemake.input.stimuli,  # noqa: F821
            places=snakemake.params.places,  # noqa: F821
            path_to_images=snakemake.output.images,  # noqa: F821
            path_to_sets=snakemake.output.sets,  # noqa: F821
            **settings,
        )
