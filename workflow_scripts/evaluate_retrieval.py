"""Retrieves test images from brains and brains from test images (paper, section 5.3).

In: a subject's projector outputs and the targets. Out: top-1 accuracy of every target alone and of
the guidance layers' vote, in both directions, beside chance.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from neuraldiffuser import runtime, storage
from neuraldiffuser.config.evaluation import BootstrapSettings, RetrievalSettings
from neuraldiffuser.errors import DataError
from neuraldiffuser.evaluation.images import name_ids
from neuraldiffuser.evaluation.retrieval import cosine_similarity, draw_candidates, retrieve
from neuraldiffuser.evaluation.statistics import bootstrap_ratio

COLUMNS = ["direction", "method", "accuracy", "low", "high", "chance", "candidates", "n"]
VOTE = "vote"


def evaluate_retrieval(
    *,
    path_to_embeddings: list[Path],
    path_to_targets: list[Path],
    path_to_retrieval: Path,
    retrieval: RetrievalSettings,
    bootstrap: BootstrapSettings,
) -> None:
    """Writes the retrieval accuracy of one subject."""
    targets = {Path(path).stem: path for path in path_to_targets}
    embeddings = {Path(path).parent.name: path for path in path_to_embeddings}
    ids = _common_ids(list(embeddings.values()))
    alone = {
        name: _similarity(path, targets[name], ids)[None]
        for name, path in runtime.progress(embeddings.items(), description="retrieving")
    }
    layers = [found for name, found in alone.items() if name.startswith("clip_image_")]
    methods = alone | ({VOTE: torch.cat(layers)} if layers else {})
    drawn = draw_candidates(
        len(ids), candidates=retrieval.candidates, draws=retrieval.draws, seed=retrieval.seed
    )
    rows = []
    for method, similarities in methods.items():
        for direction, counts in retrieve(similarities, drawn, vote=retrieval.vote).items():
            found = bootstrap_ratio(*counts, bootstrap)
            ends = float(found.estimate), float(found.low), float(found.high)
            chance = 1 / retrieval.candidates
            rows.append((direction, method, *ends, chance, retrieval.candidates, len(ids)))
    storage.write_table(path_to_retrieval, pd.DataFrame(rows, columns=COLUMNS))


def _common_ids(paths: list[Path]) -> np.ndarray:
    """The test ids, which all embeddings must share."""
    ids = storage.read_array(paths[0], "test/id")
    for path in paths[1:]:
        alone = np.setxor1d(ids, storage.read_array(path, "test/id"))
        if len(alone):
            raise DataError(
                f"{paths[0]} and {path} hold different test images ({name_ids(alone)} only in "
                "one); delete both and predict them again."
            )
    return ids


def _similarity(path_to_embedding: Path, path_to_target: Path, ids: np.ndarray) -> torch.Tensor:
    projections = storage.read_rows(path_to_embedding, ids, "test/projection", "test/id")
    targets = storage.read_rows(path_to_target, ids)
    return cosine_similarity(torch.from_numpy(projections), torch.from_numpy(targets))


if __name__ == "__main__":
    with runtime.job(snakemake) as settings:  # noqa: F821
        evaluate_retrieval(
            path_to_embeddings=snakemake.input.embeddings,  # noqa: F821
            path_to_targets=snakemake.input.targets,  # noqa: F821
            path_to_retrieval=snakemake.output.retrieval,  # noqa: F821
            **settings,
        )
