"""Initial noise, drawn for each sample from its identity alone."""

from collections.abc import Sequence

import numpy as np

# Keeps these numbers apart from those of other stages that are seeded by the same identity.
STREAM = 0x4E4F4953


def draw_noise(
    samples: Sequence[tuple[int, int]], *, seed: int, shape: tuple[int, ...]
) -> np.ndarray:
    """Standard normal noise for each (73k id, repeat).

    A sample's noise depends on (seed, id, repeat) only, never on which samples are drawn with it:
    results do not depend on batch size, order or shard.

    Args:
        samples: n pairs of 73k id and repeat.
        seed: the experiment's seed.
        shape: shape of one latent.

    Returns:
        float32 (n, *shape).
    """
    return np.stack([draw_one(seed, identity, repeat, shape) for identity, repeat in samples])


def draw_one(seed: int, identity: int, repeat: int, shape: tuple[int, ...]) -> np.ndarray:
    """Noise of one sample, float32 of `shape`."""
    generator = np.random.default_rng((STREAM, int(seed), int(identity), int(repeat)))
    return generator.standard_normal(shape, dtype=np.float32)
