"""Trials of one or several subjects, resident as tensors, and the batches made of them.

A batch is a pure function of its step: it needs no state, so a training that resumes at any step
meets the same trials.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from neuraldiffuser import storage
from neuraldiffuser.errors import DataError
from neuraldiffuser.nsd.voxels import read_voxels


@dataclass(frozen=True)
class Batch:
    """Equally many trials of every subject, subjects one after another.

    Attributes:
        voxels: (n, voxels) float32 by subject.
        target: (subjects * n, *shape) float32, rows in the order of the subjects.
        ids: (subjects * n,) 73k ids, on the host.
    """

    voxels: dict[str, torch.Tensor]
    target: torch.Tensor
    ids: np.ndarray


@dataclass(frozen=True)
class Trials:
    """Everything that a training reads.

    Attributes:
        betas: (trials, voxels) float16 by subject.
        ids: (trials,) 73k ids by subject, on the host.
        embedding: (images, *shape) float16 targets.
        embedding_ids: (images,) their 73k ids, ascending, on the host.
    """

    betas: dict[str, torch.Tensor]
    ids: dict[str, np.ndarray]
    embedding: torch.Tensor
    embedding_ids: np.ndarray

    @property
    def voxel_counts(self) -> dict[str, int]:
        """Number of voxels by subject."""
        return {subject: betas.shape[1] for subject, betas in self.betas.items()}

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one target embedding."""
        return tuple(self.embedding.shape[1:])

    def batch(self, step: int, *, size: int, seed: int) -> Batch:
        """The trials of a step: ``size`` over all subjects, each walked through in epochs."""
        count = size // len(self.betas)
        rows = {
            subject: walk(len(ids), step * count, count, seed=(seed, number))
            for number, (subject, ids) in enumerate(self.ids.items())
        }
        ids = np.concatenate([self.ids[subject][chosen] for subject, chosen in rows.items()])
        return Batch(
            voxels={
                subject: take_rows(self.betas[subject], chosen) for subject, chosen in rows.items()
            },
            target=take_rows(self.embedding, np.searchsorted(self.embedding_ids, ids)),
            ids=ids,
        )


def walk(length: int, start: int, count: int, *, seed: tuple[int, ...]) -> np.ndarray:
    """Positions start .. start + count - 1 of an endless chain of shuffles of ``range(length)``."""
    wanted = np.arange(start, start + count)
    chosen = np.empty(count, dtype=np.int64)
    for turn in np.unique(wanted // length):
        here = wanted // length == turn
        shuffled = np.random.default_rng([*seed, int(turn)]).permutation(length)
        chosen[here] = shuffled[wanted[here] % length]
    return chosen


def take_rows(table: torch.Tensor, rows: np.ndarray) -> torch.Tensor:
    """Rows of a half-precision table as float32, gathered where the table lies."""
    index = torch.from_numpy(rows).to(table.device, non_blocking=True)
    return table.index_select(0, index).float()


def read_trials(
    paths_to_voxels: Iterable[Path],
    path_to_target: Path,
    *,
    device: str = "cpu",
) -> Trials:
    """Reads the training trials of all subjects and the targets of their images.

    Args:
        paths_to_voxels: ``voxels/{subject}.h5``, one per subject.
        path_to_target: ``targets/{target}.h5``.
        device: where the tensors lie.

    Raises:
        DataError: betas or targets are not finite, an image has no target, a test image is among
            the training trials, or a subject has no training trial.
    """
    betas, ids = {}, {}
    for path in paths_to_voxels:
        voxels = read_voxels(path)
        refuse_test_images(voxels.subject, voxels.training.id, voxels.test.id)
        storage.require_finite(voxels.training.betas, f"training/betas of {path}")
        if not len(voxels.training.id):
            raise DataError(f"{path} holds no training trial; make it again with more sessions.")
        betas[voxels.subject] = torch.from_numpy(voxels.training.betas).half().to(device)
        ids[voxels.subject] = voxels.training.id
    images = np.unique(np.concatenate(list(ids.values())))
    embedding = storage.read_rows(path_to_target, images)
    storage.require_finite(embedding, f"embedding of {path_to_target}")
    return Trials(
        betas=betas,
        ids=ids,
        embedding=torch.from_numpy(embedding).half().to(device),
        embedding_ids=images,
    )


def leave_out(trials: Trials, ids: np.ndarray) -> Trials:
    """The trials and targets of all images but ``ids``."""
    images = ~np.isin(trials.embedding_ids, ids)
    left = {subject: ~np.isin(own, ids) for subject, own in trials.ids.items()}
    return Trials(
        betas={
            subject: trials.betas[subject][torch.from_numpy(rows)] for subject, rows in left.items()
        },
        ids={subject: trials.ids[subject][rows] for subject, rows in left.items()},
        embedding=trials.embedding[torch.from_numpy(images)],
        embedding_ids=trials.embedding_ids[images],
    )


def refuse_test_images(subject: str, training_ids: np.ndarray, test_ids: np.ndarray) -> None:
    """Raises DataError if a test image is among the training trials."""
    shared = np.intersect1d(training_ids, test_ids)
    if len(shared):
        raise DataError(
            f"{len(shared)} test images of {subject} are among its training trials, "
            f"{int(shared[0])} among them; delete its voxels and run the workflow again."
        )
