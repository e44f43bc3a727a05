"""Means of the decoders and their controls over all subjects, and paired differences.

In: the values per image of decoding and retrieval of every subject. Out: one table of means and one
of differences.
"""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from neuraldiffuser import runtime, storage
from neuraldiffuser.config.evaluation import BootstrapSettings
from neuraldiffuser.evaluation import contrasts

ENDING = "_images"


def compare_predictors(
    *,
    path_to_decoding: Sequence[Path],
    path_to_retrieval: Sequence[Path],
    path_to_predictors: Path,
    path_to_comparisons: Path,
    bootstrap: BootstrapSettings,
) -> None:
    """Writes means and paired differences of all predictors.

    Args:
        path_to_decoding, path_to_retrieval: ``{subject}_images.csv`` of every subject.
        path_to_predictors: where the means go.
        path_to_comparisons: where the differences go.
        bootstrap: draws, level and seed.
    """
    listed = [
        contrasts.list_retrieval(_read(path_to_retrieval)),
        contrasts.list_pearson(_read(path_to_decoding)),
    ]
    values = pd.concat(listed, ignore_index=True)
    storage.write_table(path_to_predictors, contrasts.summarise_predictors(values, bootstrap))
    storage.write_table(path_to_comparisons, contrasts.compare_predictors(values, bootstrap))


def _read(paths: Sequence[Path]) -> pd.DataFrame:
    tables = [
        storage.read_table(path).assign(subject=Path(path).stem.removesuffix(ENDING))
        for path in paths
    ]
    return pd.concat(tables, ignore_index=True)


if __name__ == "__main__":
    with runtime.job(snakemake) as settings:  # noqa: F821
        compare_predictors(
            path_to_decoding=snakemake.input.decoding,  # noqa: F821
            path_to_retrieval=snakemake.input.retrieval,  # noqa: F821
            path_to_predictors=snakemake.output.predictors,  # noqa: F821
            path_to_comparisons=snakemake.output.comparisons,  # noqa: F821
            **settings,
        )
