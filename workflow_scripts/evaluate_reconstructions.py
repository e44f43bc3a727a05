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
from neuraldiffuser.config.evaluation import Measures
from neuraldiffuser.diffusion.store import read_reconstructions
from neuraldiffuser.evaluation.features import (
    SetValue,
    measure_networks,
    network_loader,
    split_judges,
)
from neuraldiffuser.evaluation.images import constant_images, name_ids, read_stimuli
from neuraldiffuser.evaluation.long_form import to_long_form
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
        places: where the weights of each judging model lie; judges of others are skipped.
        path_to_images: one value per image, repeat and metric go there.
        path_to_sets: metrics of the whole set go there.
        measures: networks, judges and conventions.
        loaders: which network each judging one is, and so how its file is read.
    """
    ids, reconstructions = read_reconstructions(path_to_reconstructions, path_to_selection)
    stimuli = read_stimuli(path_to_stimuli, ids)
    _warn_of_constant(ids, reconstructions)
    judges, skipped = split_judges(
        measures.judges,
        number=len(ids),
        networks={name: network.model for name, network in measures.networks.items()},
        models=places,
    )
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
        first_resize_of=measures.first_resize_of,
    )
    by_image = {name: found for name, found in values.items() if isinstance(found, np.ndarray)}
    storage.write_table(path_to_images, to_long_form(ids, by_image))
    sets = {name: found for name, found in values.items() if isinstance(found, SetValue)}
    storage.write_table(path_to_sets, tabulate_sets(sets, skipped, number=len(ids)))


def _warn_of_constant(ids: np.ndarray, reconstructions: np.ndarray) -> None:
    flat = reconstructions.reshape(-1, *reconstructions.shape[2:])
    constant = constant_images(flat).reshape(reconstructions.shape[:2]).any(axis=1)
    if constant.any():
        runtime.logger.warning(
            "reconstructions of the images %s are of one grey value; their correlations count "
            "as 0.",
            name_ids(ids[constant]),
        )


def tabulate_sets(
    sets: Mapping[str, SetValue], skipped: Mapping[str, str], *, number: int
) -> pd.DataFrame:
    """Metrics of the whole set of ``number`` images, and every metric that was not computed."""
    rows = [(name, found.value, number, found.note) for name, found in sets.items()]
    rows += [(name, np.nan, number, note) for name, note in skipped.items()]
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
