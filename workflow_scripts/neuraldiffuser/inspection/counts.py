"""How much an experiment has to do: sessions, trials, voxels and images of its subjects.

What only the data will tell is estimated from what NSD publishes of itself, or from the settings of
the generated world.
"""

from dataclasses import dataclass

import numpy as np

from neuraldiffuser.config.reconstruction import STIMULUS
from neuraldiffuser.config.root import Config
from neuraldiffuser.nsd.published_counts import AFTER_SESSIONS, TRIALS_PER_SESSION, VOXELS

USUAL_VOXELS = 15_000  # of a subject of whom nothing is published


@dataclass(frozen=True)
class Counts:
    """Of one subject.

    Attributes:
        sessions: that are used.
        voxels: of nsdgeneral.
        trials: of these sessions.
        test_trials: among them, of test images.
        training_images: different ones.
        test_images: different ones.
    """

    sessions: int
    voxels: int
    trials: int
    test_trials: int
    training_images: int
    test_images: int


def count(config: Config, subject: str) -> Counts:
    """What a subject brings."""
    sessions = len(config.nsd.sessions_used[subject])
    if config.nsd.bucket == config.mini.bucket:
        return _count_generated(config, subject, sessions)
    images = _interpolate("images", sessions)
    test_images = _interpolate("test images", sessions)
    return Counts(
        sessions=sessions,
        voxels=VOXELS.get(subject, USUAL_VOXELS),
        trials=TRIALS_PER_SESSION * sessions,
        test_trials=_interpolate("test trials", sessions),
        training_images=images - test_images,
        test_images=test_images,
    )


def _count_generated(config: Config, subject: str, sessions: int) -> Counts:
    world = config.mini.world
    number = config.everybody.index(subject)
    return Counts(
        sessions=sessions,
        voxels=world.voxels[number % len(world.voxels)],
        trials=world.trials_per_session * sessions,
        test_trials=3 * world.shared_images,
        training_images=world.own_images,
        test_images=world.shared_images,
    )


def _interpolate(what: str, sessions: int) -> int:
    """A published count, or what lies between two of them; the first picture is in session 1."""
    known = {0: 0} | {
        after: counts[what] for after, counts in AFTER_SESSIONS.items() if what in counts
    }
    places = sorted(known)
    return round(float(np.interp(sessions, places, [known[place] for place in places])))


def count_test_images(config: Config, subject: str) -> int:
    """Test images of a subject, or of the stimuli themselves: those of all subjects."""
    subjects = config.subjects if subject == STIMULUS else [subject]
    return max(count(config, name).test_images for name in subjects)


def count_images_in_use(config: Config) -> int:
    """Different images that any subject sees; all see the test images."""
    counts = [count(config, subject) for subject in config.everybody]
    return sum(each.training_images for each in counts) + max(each.test_images for each in counts)
