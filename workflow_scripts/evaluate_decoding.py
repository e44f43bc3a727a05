"""Measures a subject's decoded embeddings against the targets (Fig. 5).

In: the decoded embeddings of every target, the targets, the voxels (for the ids of the training
images). Out: every measure of every target, beside a predictor that always says the mean feature.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from neuraldiffuser import runtime, storage
from neuraldiffuser.config.evaluation import BootstrapSettings
from neuraldiffuser.evaluation.decoding import Accuracy, measure_decoding
from neuraldiffuser.evaluation.statistics import bootstrap_mean

GUIDANCE = "guidance"  # the mean over the guidance layers
ROWS_AT_ONCE = 1024
COLUMNS = ["target", "measure", "predictor", "value", "std", "low", "high", "n", "dimensions"]


def evaluate_decoding(
    *,
    path_to_embeddings: list[Path],
    path_to_targets: list[Path],
    path_to_voxels: Path,
    path_to_decoding: Path,
    bootstrap: BootstrapSettings,
) -> None:
    """Writes the decoding accuracy of one subject."""
    targets = {Path(path).stem: path for path in path_to_targets}
    training = np.unique(storage.read_array(path_to_voxels, "training/id"))
    found: dict[tuple[str, str, str], Accuracy] = {}
    for path in runtime.progress(path_to_embeddings, description="measuring decoding"):
        name = Path(path).parent.name
        for predictor, accuracies in _measure_target(path, targets[name], training).items():
            for measure, accuracy in accuracies.items():
                found[name, measure, predictor] = accuracy
    rows = [_row(key, accuracy, bootstrap) for key, accuracy in {**found, **_mean(found)}.items()]
    storage.write_table(path_to_decoding, pd.DataFrame(rows, columns=COLUMNS))


def _measure_target(
    path_to_embedding: Path, path_to_target: Path, training: np.ndarray
) -> dict[str, dict[str, Accuracy]]:
    ids = storage.read_array(path_to_embedding, "test/id")
    decoded = torch.from_numpy(storage.read_array(path_to_embedding, "test/embedding"))
    target = torch.from_numpy(storage.read_rows(path_to_target, ids)).float()
    mean = torch.from_numpy(mean_target(path_to_target, training)).expand_as(target)
    return {
        "decoder": measure_decoding(decoded, target),
        "mean_feature": measure_decoding(mean, target),
    }


def mean_target(path_to_target: Path, ids: np.ndarray) -> np.ndarray:
    """The mean of a target over images, float64, read in parts."""
    parts = np.array_split(ids, -(-len(ids) // ROWS_AT_ONCE))
    sums = [storage.read_rows(path_to_target, part).sum(axis=0, dtype=np.float64) for part in parts]
    return np.sum(sums, axis=0) / len(ids)


def _mean(found: dict[tuple[str, str, str], Accuracy]) -> dict[tuple[str, str, str], Accuracy]:
    """Means over the guidance layers: of each measure, by layer and by image."""
    layers = sorted({name for name, _, _ in found if name.startswith("clip_image_")})
    kinds = dict.fromkeys((measure, predictor) for _, measure, predictor in found)
    if not layers:
        return {}
    return {
        (GUIDANCE, measure, predictor): Accuracy(
            values=torch.stack([found[name, measure, predictor].values.mean() for name in layers]),
            by_image=torch.stack(
                [found[name, measure, predictor].by_image for name in layers]
            ).mean(dim=0),
        )
        for measure, predictor in kinds
    }


def _row(key: tuple[str, str, str], accuracy: Accuracy, bootstrap: BootstrapSettings) -> tuple:
    interval = bootstrap_mean(accuracy.by_image.numpy(), bootstrap)
    spread = float(accuracy.values.std(correction=0))
    ends = float(interval.estimate), spread, float(interval.low), float(interval.high)
    return (*key, *ends, len(accuracy.by_image), len(accuracy.values))


if __name__ == "__main__":
    with runtime.job(snakemake) as settings:  # noqa: F821
        evaluate_decoding(
            path_to_embeddings=snakemake.input.embeddings,  # noqa: F821
            path_to_targets=snakemake.input.targets,  # noqa: F821
            path_to_voxels=snakemake.input.voxels,  # noqa: F821
            path_to_decoding=snakemake.output.decoding,  # noqa: F821
            **settings,
        )
