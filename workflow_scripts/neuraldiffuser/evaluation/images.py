"""Images on their way into a metric: joined by id, refused where no metric is defined."""

from pathlib import Path

import numpy as np

from neuraldiffuser.errors import DataError
from neuraldiffuser.nsd import stimuli


def read_stimuli(path: Path | str, ids: np.ndarray) -> np.ndarray:
    """The stimuli with these 0-based 73k ids, in their order: (n, h, w, 3) uint8.

    Raises:
        DataError: an id lies outside the file, or a stimulus is of one grey value.
    """
    images = stimuli.read_images(path, ids)
    constant = ids[constant_images(images)]
    if len(constant):
        raise DataError(
            f"the stimuli {name_ids(constant)} are of one grey value, so that nothing correlates "
            "with them; restore the stimulus file or leave these images out."
        )
    return images


def constant_images(images: np.ndarray) -> np.ndarray:
    """Which images (n, h, w, 3) hold one value in every pixel and colour: (n,) booleans."""
    flat = images.reshape(len(images), -1)
    return flat.min(axis=1) == flat.max(axis=1)


def name_ids(ids: np.ndarray, limit: int = 10) -> str:
    """Ids for a sentence, at most ``limit`` of them."""
    named = ", ".join(str(int(number)) for number in ids[:limit])
    return named if len(ids) <= limit else f"{named} and {len(ids) - limit} more"
