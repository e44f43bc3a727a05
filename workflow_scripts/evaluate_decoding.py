"""Measures a subject's decoded embeddings against the targets (Fig. 5).

In: the embeddings of every target by the decoders and their controls, the targets, the voxels (for
the ids of the training images). Out: every measure of every target and predictor, beside a
predictor that always says the mean feature; and the values of single images behind them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from neuraldiffuser import runtime, storage
from neuraldiffuser.config.evaluation import BootstrapSettings
from neuraldiffuser.evaluation.decoding import MEASURES, Accuracy, measure_decoding
from neuraldiffuser.evaluation.predictors import (
    LAYER_MEAN,
    MEAN_FEATURE,
    PREDICTORS,
    held_out_ids,
    is_guidance,
    mean_target,
    sort_by_target,
    training_ids,
)
from neuraldiffuser.evaluation.statistics import bootstrap_mean

COLUMNS = ["target", "predictor", "measure", "value", "std", "low", "high", "n", "dimensions"]

Found = dict[tuple[str, str, str], Accuracy]  # target, predictor, measure


@dataclass(frozen=True)
class Truth:
    """A target's file and its mean over the training images, float64."""

    path: Path
    mean: torch.Tensor


def evaluate_decoding(
    *,
    paths_to_embeddings: Mapping[str, Sequence[Path]],
    path_to_targets: Sequence[Path],
    path_to_voxels: Path,
    path_to_decoding: Path,
    path_to_images: Path,
    bootstrap: BootstrapSettings,
) -> None:
    """Writes the decoding accuracy of one subject.

    Args:
        paths_to_embeddings: by predictor, a file per target.
        path_to_targets: a file per target.
        path_to_voxels: the subject's voxels.
        path_to_decoding: where every measure goes, by split, target and predictor.
        path_to_images: where the values per image go, in long form.
        bootstrap: draws, level and seed.
    """
    files = sort_by_target(paths_to_embeddings)
    targets = {Path(path).stem: Path(path) for path in path_to_targets}
    held_out = held_out_ids(files)
    training = training_ids(path_to_voxels, held_out.values())
    found: dict[str, Found] = {split: {} for split in held_out}
    for target, predictors in runtime.progress(files.items(), description="measuring decoding"):
        mean = torch.from_numpy(mean_target(targets[target], training))
        truth = Truth(targets[target], mean)
        for split, ids in held_out.items():
            for predictor, accuracies in _measure(predictors, truth, split, ids).items():
                for measure, accuracy in accuracies.items():
                    found[split][target, predictor, measure] = accuracy
    complete = {split: some | _average_layers(some) for split, some in found.items()}
    summaries = [_summarise(some, split, bootstrap) for split, some in complete.items()]
    storage.write_table(path_to_decoding, pd.concat(summaries))
    images = [_list_images(some, split, held_out[split]) for split, some in complete.items()]
    storage.write_table(path_to_images, pd.concat(images))


def _measure(
    paths: Mapping[str, Path], truth: Truth, split: str, ids: np.ndarray
) -> dict[str, dict[str, Accuracy]]:
    """Every measure of one target by predictor, the mean feature among them."""
    target = torch.from_numpy(storage.read_rows(truth.path, ids)).float()
    measured = {}
    for predictor, path in paths.items():
        rows = storage.read_rows(path, ids, f"{split}/embedding", f"{split}/id")
        measured[predictor] = measure_decoding(torch.from_numpy(rows), target, truth.mean)
    mean = truth.mean.expand_as(target)
    return measured | {MEAN_FEATURE: measure_decoding(mean, target, truth.mean)}


def _average_layers(found: Found) -> Found:
    """Means over the guidance layers: of each measure, by layer and by image."""
    layers = sorted({target for target, _, _ in found if is_guidance(target)})
    if not layers:
        return {}
    predictors = dict.fromkeys(predictor for _, predictor, _ in found)
    return {
        (LAYER_MEAN, predictor, measure): _average(
            [found[layer, predictor, measure] for layer in layers]
        )
        for predictor in predictors
        for measure in MEASURES
    }


def _average(layers: list[Accuracy]) -> Accuracy:
    return Accuracy(
        values=torch.stack([layer.values.mean() for layer in layers]),
        by_image=torch.stack([layer.by_image for layer in layers]).mean(dim=0),
    )


def _summarise(found: Found, split: str, bootstrap: BootstrapSettings) -> pd.DataFrame:
    by_image = np.stack([accuracy.by_image.numpy() for accuracy in found.values()], axis=1)
    interval = bootstrap_mean(by_image, bootstrap)
    ends = zip(interval.estimate, interval.low, interval.high, strict=True)
    rows = [
        (*key, mean, float(accuracy.values.std(correction=0)), low, high)
        + (len(accuracy.by_image), len(accuracy.values))
        for (key, accuracy), (mean, low, high) in zip(found.items(), ends, strict=True)
    ]
    table = pd.DataFrame(rows, columns=COLUMNS)
    table.insert(0, "split", split)
    return table


def _list_images(found: Found, split: str, ids: np.ndarray) -> pd.DataFrame:
    """One row per image, target, predictor and measure."""
    parts = []
    for (target, predictor, measure), accuracy in found.items():
        values = accuracy.by_image.numpy()
        storage.require_finite(values, f"{measure} of {target} by {predictor} ({split} images)")
        names = {"target": target, "predictor": predictor, "measure": measure}
        parts.append(pd.DataFrame({"split": split, "id": ids} | names | {"value": values}))
    return pd.concat(parts)


if __name__ == "__main__":
    with runtime.job(snakemake) as settings:  # noqa: F821
        evaluate_decoding(
            paths_to_embeddings={
                name: snakemake.input[name]  # noqa: F821
                for name in PREDICTORS
                if name in snakemake.input.keys()  # noqa: F821, SIM118
            },
            path_to_targets=snakemake.input.targets,  # noqa: F821
            path_to_voxels=snakemake.input.voxels,  # noqa: F821
            path_to_decoding=snakemake.output.decoding,  # noqa: F821
            path_to_images=snakemake.output.images,  # noqa: F821
            **settings,
        )
