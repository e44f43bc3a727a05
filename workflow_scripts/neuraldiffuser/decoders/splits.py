"""Which training images a subject's finetuning never sees."""

import numpy as np

from neuraldiffuser.errors import ConfigError


def validation_ids(training_ids: np.ndarray, *, count: int, seed: int) -> np.ndarray:
    """A seeded choice of ``count`` training images.

    Args:
        training_ids: 73k ids of training trials, in any order, repeated or not.
        count: how many images to hold out.
        seed: of the choice.

    Returns:
        (count,) ids, ascending.

    Raises:
        ConfigError: nothing would be left to train on.
    """
    images = np.unique(training_ids)
    if count >= len(images):
        raise ConfigError(
            f"decoder.validation_images is {count}, but there are only {len(images)} training "
            "images; hold out fewer."
        )
    generator = np.random.default_rng([seed, len(images)])
    return np.sort(generator.choice(images, size=count, replace=False)).astype(np.int64)
