"""The plan of the miniature world: who sees which picture when, and the seeds of everything."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from neuraldiffuser.config.mini import WorldSettings
from neuraldiffuser.errors import ConfigError
from neuraldiffuser.nsd.design import subject_number

REPEATS = 3
PURPOSES = ("tuning", "volume", "session", "patterns", "invalid", "gain", "responses", "anatomy")


@dataclass(frozen=True)
class World:
    """What the bucket holds, from the configuration."""

    settings: WorldSettings
    subjects: tuple[str, ...]
    sessions: Mapping[str, int]
    betas: str  # their version, which names their folder

    def voxels_of(self, subject: str) -> int:
        """Number of nsdgeneral voxels."""
        return self.settings.voxels[self.subjects.index(subject) % len(self.settings.voxels)]

    def generator(self, subject: str, purpose: str, item: int = 0) -> np.random.Generator:
        """The generator of one random thing; nothing else draws from it."""
        code = PURPOSES.index(purpose)
        return np.random.default_rng((self.settings.seed, subject_number(subject), code, item))


def require_whole_design(world: World) -> None:
    """Raises ConfigError unless the sessions hold every picture exactly three times."""
    trials = REPEATS * (world.settings.shared_images + world.settings.own_images)
    for subject in world.subjects:
        if world.sessions.get(subject, 0) * world.settings.trials_per_session != trials:
            raise ConfigError(
                f"nsd.sessions.{subject} is {world.sessions.get(subject, 0)}, but {trials} trials "
                f"(three per picture) in sessions of {world.settings.trials_per_session} need "
                f"{trials / world.settings.trials_per_session:g}; change one of them."
            )


def master_ordering(world: World) -> np.ndarray:
    """Which of a subject's pictures (0-based, shared ones first) each trial shows: (trials,).

    As in NSD the order is common to all subjects, and the repeats of a picture spread over
    neighbouring and distant sessions.
    """
    rng = np.random.default_rng((world.settings.seed, 0))
    return rng.permutation(
        np.tile(np.arange(world.settings.shared_images + world.settings.own_images), REPEATS)
    )


def picture_ids(world: World) -> np.ndarray:
    """0-based 73k ids (subjects, pictures) that each subject sees, the shared ones first."""
    count = len(world.subjects)
    everything = np.random.default_rng((world.settings.seed, 1)).permutation(
        world.settings.shared_images + count * world.settings.own_images
    )
    shared = np.sort(everything[: world.settings.shared_images])
    own = everything[world.settings.shared_images :].reshape(count, world.settings.own_images)
    return np.concatenate([np.tile(shared, (count, 1)), own], axis=1)


def planned_ids(world: World) -> dict[str, np.ndarray]:
    """The 73k id (trials,) of each trial, by subject."""
    order = master_ordering(world)
    return {
        subject: row[order] for subject, row in zip(world.subjects, picture_ids(world), strict=True)
    }


def coco_ids(world: World) -> np.ndarray:
    """A made-up COCO picture id (pictures,) per 73k id, in no order."""
    number = world.settings.shared_images + len(world.subjects) * world.settings.own_images
    return 1000 + 7 * np.random.default_rng((world.settings.seed, 2)).permutation(number)


def coco_splits(world: World) -> np.ndarray:
    """The COCO split (pictures,) of each 73k id; every tenth one is of the validation split."""
    return np.where(coco_ids(world) % 10 == 0, "val2017", "train2017")
