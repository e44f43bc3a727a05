"""Trials of one or several subjects as half-precision tables, and the batches made of them.

A batch is a pure function of its step: it needs no state, so a training that resumes at any step
meets the same trials. Tables lie on the device while they fit beside what is trained; rows of the
others are gathered on the host, in pinned memory, while the device computes, and copied after it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from neuraldiffuser import runtime, storage
from neuraldiffuser.decoders.splits import validation_ids
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

    def per_subject(self, size: int) -> int:
        """Trials that a batch of ``size`` takes from each subject."""
        return size // len(self.betas)

    def batch(
        self, step: int, *, size: int, seed: int, device: torch.device | str = "cpu"
    ) -> Batch:
        """The trials of a step on ``device``: ``size`` over all subjects, each walked in epochs."""
        rows = self._rows(step, size=size, seed=seed)
        ids = self._ids(rows)
        targets = np.searchsorted(self.embedding_ids, ids)
        return Batch(
            voxels={
                subject: take_rows(self.betas[subject], chosen, device)
                for subject, chosen in rows.items()
            },
            target=take_rows(self.embedding, targets, device),
            ids=ids,
        )

    def ids_of(self, step: int, *, size: int, seed: int) -> np.ndarray:
        """The images of a step's batch, (subjects * n,) 73k ids."""
        return self._ids(self._rows(step, size=size, seed=seed))

    def _rows(self, step: int, *, size: int, seed: int) -> dict[str, np.ndarray]:
        count = self.per_subject(size)
        return {
            subject: walk(len(ids), step * count, count, seed=(seed, number))
            for number, (subject, ids) in enumerate(self.ids.items())
        }

    def _ids(self, rows: dict[str, np.ndarray]) -> np.ndarray:
        return np.concatenate([self.ids[subject][chosen] for subject, chosen in rows.items()])


def walk(length: int, start: int, count: int, *, seed: tuple[int, ...]) -> np.ndarray:
    """Positions start .. start + count - 1 of an endless chain of shuffles of ``range(length)``."""
    wanted = np.arange(start, start + count)
    chosen = np.empty(count, dtype=np.int64)
    for turn in np.unique(wanted // length):
        here = wanted // length == turn
        chosen[here] = shuffle(length, (*seed, int(turn)))[wanted[here] % length]
    return chosen


@lru_cache(maxsize=64)
def shuffle(length: int, seed: tuple[int, ...]) -> np.ndarray:
    """A seeded shuffle of ``range(length)``, kept because a whole epoch reads it."""
    return np.random.default_rng(seed).permutation(length)


def take_rows(table: torch.Tensor, rows: np.ndarray, device: torch.device | str) -> torch.Tensor:
    """Rows of a half-precision table as float32 on ``device``; the host waits for nothing."""
    index = torch.from_numpy(rows)
    if table.device.type == "cpu" and torch.device(device).type != "cpu":
        picked = torch.empty((len(rows), *table.shape[1:]), dtype=table.dtype, pin_memory=True)
        torch.index_select(table, 0, index, out=picked)
        return picked.to(device, non_blocking=True).float()
    return table.index_select(0, index.to(table.device, non_blocking=True)).float()


def keep_on_device(trials: Trials, device: torch.device | str, *, free: int) -> Trials:
    """The same trials with their tables on ``device``, those that fit into ``free`` bytes.

    The targets come first: of all tables, theirs moves the most bytes at each step.
    """
    tables = {"embedding": trials.embedding, **trials.betas}
    for name, table in tables.items():
        if table.nbytes <= free:
            tables[name] = table.to(device)
            free -= table.nbytes
        else:
            runtime.logger.info("%s stay on the host (%.1f GB)", name, table.nbytes / 1e9)
    return replace(trials, embedding=tables.pop("embedding"), betas=tables)


def read_trials(paths_to_voxels: Iterable[Path], path_to_target: Path) -> Trials:
    """Reads the training trials of all subjects and the targets of their images, on the host.

    Args:
        paths_to_voxels: ``voxels/{subject}.h5``, one per subject.
        path_to_target: ``targets/{target}.h5``.

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
        betas[voxels.subject] = torch.from_numpy(voxels.training.betas).half()
        ids[voxels.subject] = voxels.training.id
    images = np.unique(np.concatenate(list(ids.values())))
    embedding = storage.read_rows(path_to_target, images)
    storage.require_finite(embedding, f"embedding of {path_to_target}")
    return Trials(
        betas=betas,
        ids=ids,
        embedding=torch.from_numpy(embedding).half(),
        embedding_ids=images,
    )


def read_own_trials(
    path_to_voxels: Path | str, path_to_target: Path | str, *, validation_images: int, seed: int
) -> tuple[Trials, np.ndarray]:
    """A subject's trials of all but its validation images, and these images' ids.

    Args:
        path_to_voxels: ``voxels/{subject}.h5``.
        path_to_target: ``targets/{target}.h5``.
        validation_images: how many training images are held out.
        seed: of their choice.

    Raises:
        ConfigError: nothing would be left to train on.
        DataError: as from ``read_trials``.
    """
    everything = read_trials([path_to_voxels], path_to_target)
    held_out = validation_ids(everything.embedding_ids, count=validation_images, seed=seed)
    return leave_out(everything, held_out), held_out


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
