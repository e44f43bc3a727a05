"""Retrieves held-out images from brains and brains from images (paper, section 5.3).

In: what the decoders and their controls say of every target with a projection, the targets, the
voxels (for the ids of the training images). Out: top-1 accuracy of every target alone and of the
guidance layers' vote, in both directions, among drawn and among all candidates, beside chance; and
the successes and trials of single images behind it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from neuraldiffuser import runtime, storage
from neuraldiffuser.config.evaluation import BootstrapSettings, RetrievalSettings
from neuraldiffuser.evaluation.predictors import (
    ALL,
    DRAWN,
    PREDICTORS,
    VOTE,
    Files,
    held_out_ids,
    is_guidance,
    mean_target,
    sort_by_target,
    training_ids,
)
from neuraldiffuser.evaluation.retrieval import SIMILARITIES, choose_candidates, retrieve
from neuraldiffuser.evaluation.statistics import bootstrap_ratio

IMAGES = ["split", "id", "predictor", "output", "method", "direction", "pool"]
IMAGES += ["successes", "trials"]
KEYS = ["predictor", "output", "method", "direction", "pool"]
COLUMNS = ["split", *KEYS, "accuracy", "low", "high", "chance", "candidates", "n"]

Similarities = dict[tuple[str, str], dict[str, torch.Tensor]]  # (predictor, output): by method


def evaluate_retrieval(
    *,
    paths_to_embeddings: Mapping[str, Sequence[Path]],
    path_to_targets: Sequence[Path],
    path_to_voxels: Path,
    path_to_retrieval: Path,
    path_to_images: Path,
    retrieval: RetrievalSettings,
    bootstrap: BootstrapSettings,
) -> None:
    """Writes the retrieval accuracy of one subject.

    Args:
        paths_to_embeddings: by predictor, a file per target.
        path_to_targets: a file per target.
        path_to_voxels: the subject's voxels.
        path_to_retrieval: where the accuracies go.
        path_to_images: where successes and trials of each image go, in long form.
        retrieval: candidates, draws, vote and seed.
        bootstrap: draws, level and seed.
    """
    files = sort_by_target(paths_to_embeddings)
    targets = {Path(path).stem: Path(path) for path in path_to_targets}
    held_out = held_out_ids(files)
    training = training_ids(path_to_voxels, held_out.values())
    means = {target: mean_target(targets[target], training) for target in files}
    summaries, images = [], []
    for split, ids in held_out.items():
        similarities = _add_vote(_compare(files, targets, means, split=split, ids=ids))
        counted = _count(similarities, ids, retrieval).assign(split=split)[IMAGES]
        images.append(counted)
        summaries.append(_summarise(counted, retrieval, bootstrap).assign(split=split)[COLUMNS])
    storage.write_table(path_to_retrieval, pd.concat(summaries))
    storage.write_table(path_to_images, pd.concat(images))


def _compare(
    files: Files,
    targets: Mapping[str, Path],
    means: Mapping[str, np.ndarray],
    *,
    split: str,
    ids: np.ndarray,
) -> Similarities:
    """(1, n, n) similarities of every predictor's outputs with every target."""
    found: Similarities = {}
    for target, predictors in runtime.progress(files.items(), description=f"comparing {split}"):
        truth = torch.from_numpy(storage.read_rows(targets[target], ids)).flatten(1).double()
        mean = torch.from_numpy(means[target]).flatten()
        for predictor, path in predictors.items():
            for output, rows in _read_outputs(path, split, ids).items():
                similarity = SIMILARITIES[output](rows, truth, mean)[None]
                found.setdefault((predictor, output), {})[target] = similarity
    return found


def _read_outputs(path: Path, split: str, ids: np.ndarray) -> dict[str, torch.Tensor]:
    """What a predictor says, by kind of output, (n, dims) each."""
    with storage.open_arrays(path) as file:
        held = [output for output in SIMILARITIES if output in file[split]]
    return {
        output: torch.from_numpy(
            storage.read_rows(path, ids, f"{split}/{output}", f"{split}/id")
        ).flatten(1)
        for output in held
    }


def _add_vote(similarities: Similarities) -> Similarities:
    """All layers of each predictor below each other, (layers, n, n), as one method more."""
    return {key: alone | _stack_layers(alone) for key, alone in similarities.items()}


def _stack_layers(alone: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    layers = [similarity for target, similarity in alone.items() if is_guidance(target)]
    return {VOTE: torch.cat(layers)} if layers else {}


def _count(
    similarities: Similarities, ids: np.ndarray, retrieval: RetrievalSettings
) -> pd.DataFrame:
    """Successes and trials of each image."""
    parts = []
    for pool, chosen in choose_candidates(len(ids), retrieval).items():
        for (predictor, output), methods in similarities.items():
            for method, similarity in methods.items():
                found = retrieve(similarity, chosen, vote=retrieval.vote)
                for direction, (successes, trials) in found.items():
                    key = (predictor, output, method, direction, pool)
                    counts = {"id": ids, "successes": successes, "trials": trials}
                    parts.append(pd.DataFrame(dict(zip(KEYS, key, strict=True)) | counts))
    return pd.concat(parts)


def _summarise(
    counted: pd.DataFrame, retrieval: RetrievalSettings, bootstrap: BootstrapSettings
) -> pd.DataFrame:
    wide = counted.pivot(index="id", columns=KEYS, values=["successes", "trials"])
    interval = bootstrap_ratio(wide["successes"].to_numpy(), wide["trials"].to_numpy(), bootstrap)
    table = wide["successes"].columns.to_frame(index=False)
    number = len(wide)
    candidates = table["pool"].map({DRAWN: min(retrieval.candidates, number), ALL: number})
    ends = {"accuracy": interval.estimate, "low": interval.low, "high": interval.high}
    return table.assign(**ends, chance=1 / candidates, candidates=candidates, n=number)


if __name__ == "__main__":
    with runtime.job(snakemake) as settings:  # noqa: F821
        evaluate_retrieval(
            paths_to_embeddings={
                name: snakemake.input[name]  # noqa: F821
                for name in PREDICTORS
                if name in snakemake.input.keys()  # noqa: F821, SIM118
            },
            path_to_targets=snakemake.input.targets,  # noqa: F821
            path_to_voxels=snakemake.input.voxels,  # noqa: F821
            path_to_retrieval=snakemake.output.retrieval,  # noqa: F821
            path_to_images=snakemake.output.images,  # noqa: F821
            **settings,
        )
