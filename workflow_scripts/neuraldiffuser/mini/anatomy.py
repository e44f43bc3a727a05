"""What a simulated brain looks like in its mean functional volume; for pictures only."""

import numpy as np
from scipy import ndimage

FLUID, GREY, WHITE = 1.25, 0.85, 0.6  # brightness in T2*-weighted volumes, relative to each other
CORTEX = 0.24  # depth of the grey ribbon, share of the way to the centre
FOLDING = 0.16  # how far folds move the ribbon
FISSURE = 0.1  # half width of the gap between the hemispheres
VENTRICLES = ((-0.2, 0.1, 0.1), (0.2, 0.1, 0.1))
VENTRICLE_SIZE = (0.14, 0.4, 0.2)
FALL_OFF = 0.2  # how much darker the middle is than voxels near the receive coils
BACKGROUND = 0.05
UNITS = 1000


def draw_mean_volume(rng: np.random.Generator, *, inside: np.ndarray) -> np.ndarray:
    """A mean volume: folded cortex, white matter, ventricles and the gap between hemispheres.

    Args:
        rng: draws folds and noise.
        inside: (x, y, z) boolean, the brain.

    Returns:
        (x, y, z) int16 in arbitrary units, dim outside the brain.
    """
    place = _normalised_coordinates(inside.shape)
    radius = (np.abs(place) ** 4).sum(axis=0) ** 0.25
    folds = ndimage.gaussian_filter(rng.normal(size=inside.shape), 1.3)
    depth = 1 - radius + FOLDING * folds / folds.std()
    tissue = np.where(depth < CORTEX, GREY, WHITE)
    tissue[_is_fluid(place)] = FLUID
    sharp = np.where(inside, tissue * (1 - FALL_OFF * (1 - radius)), BACKGROUND)
    blurred = ndimage.gaussian_filter(sharp, 0.55)
    noise = rng.normal(0, 0.015, inside.shape)
    return np.round(UNITS * (blurred + noise)).clip(0).astype(np.int16)


def _normalised_coordinates(shape: tuple[int, ...]) -> np.ndarray:
    """x, y and z (3, *shape) of every voxel, from -1 to 1 between the faces of the volume."""
    middle = (np.array(shape) - 1).reshape(3, 1, 1, 1) / 2
    return (np.indices(shape) - middle) / (middle + 0.5)


def _is_fluid(place: np.ndarray) -> np.ndarray:
    """The ventricles, and the fissure above them."""
    x, _, z = place
    size = np.array(VENTRICLE_SIZE).reshape(3, 1, 1, 1)
    ventricles = [
        (((place - np.reshape(centre, (3, 1, 1, 1))) / size) ** 2).sum(axis=0) < 1
        for centre in VENTRICLES
    ]
    return np.any([*ventricles, (np.abs(x) < FISSURE) & (z > 0.35)], axis=0)
