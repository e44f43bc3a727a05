"""Simulated brains: what each voxel of a miniature subject answers to a scene, and its noise.

The encoding model shares nothing with the networks that decode or guide. Voxels of V1 to hV4 pool
rectified channels of the picture (Gabor energy at four orientations and three scales; light and
dark; red, green, blue and yellow) over a Gaussian receptive field whose size grows along the
hierarchy, and compress the sum (compressive spatial summation, Kay et al. 2013). Higher voxels mix
the kind, colour, size and place of the objects and the background, and a little of the picture.
Every voxel's signal has variance one over the subject's pictures; its noise follows from a noise
ceiling that is drawn like NSD's.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.fft

from neuraldiffuser.mini import scenes
from neuraldiffuser.nsd.noise_ceiling import ratio_of

GRID = 32  # receptive fields are sampled on this many cells per side
ORIENTATIONS = 4
CYCLES = (4.0, 8.0, 16.0)  # spatial frequencies, cycles per picture
OPPONENT_CHANNELS = ("light", "dark", "red", "green", "blue", "yellow")
CHANNELS = len(OPPONENT_CHANNELS) + ORIENTATIONS * len(CYCLES)


@dataclass(frozen=True)
class Area:
    """What distinguishes the voxels of one visual area."""

    share: float  # of the nsdgeneral voxels
    labels: tuple[int, int]  # prf-visualrois label of its upper and lower visual field
    size: float  # receptive-field sigma at the centre of gaze, fractions of the picture
    growth: float  # increase of sigma per unit of eccentricity
    exponent: float  # of the compressive nonlinearity
    semantic: float  # share of the signal's variance that comes from what the scene shows


AREAS = {
    "V1": Area(share=0.26, labels=(1, 2), size=0.035, growth=0.06, exponent=0.8, semantic=0.0),
    "V2": Area(share=0.22, labels=(3, 4), size=0.05, growth=0.08, exponent=0.75, semantic=0.0),
    "V3": Area(share=0.16, labels=(5, 6), size=0.07, growth=0.12, exponent=0.7, semantic=0.0),
    "hV4": Area(share=0.12, labels=(7, 7), size=0.10, growth=0.16, exponent=0.65, semantic=0.2),
    "higher": Area(share=0.24, labels=(0, 0), size=0.16, growth=0.2, exponent=0.6, semantic=0.75),
}


@dataclass(frozen=True)
class Tuning:
    """The ground truth of a subject's nsdgeneral voxels; every array has one row per voxel."""

    label: np.ndarray  # uint8 (voxels,), prf-visualrois label, 0 = higher
    centre: np.ndarray  # float32 (voxels, 2), x to the right and y downwards, in 0..1
    size: np.ndarray  # float32 (voxels,), sigma in fractions of the picture
    exponent: np.ndarray  # float32 (voxels,)
    channel_weight: np.ndarray  # float32 (voxels, CHANNELS), not negative
    semantic_weight: np.ndarray  # float32 (voxels, properties)
    semantic_share: np.ndarray  # float32 (voxels,)
    noise_ceiling: np.ndarray  # float32 (voxels,), percent of a three-trial mean's variance


# --- what a picture offers -------------------------------------------------------------------


def opponent_channels(images: np.ndarray) -> np.ndarray:
    """Rectified light, dark, red, green, blue and yellow: (n, 6, h, w) from sRGB (n, h, w, 3)."""
    red, green, blue = np.moveaxis(images.astype(np.float32) / 255, -1, 0)
    signed = np.stack([(red + green + blue) / 3 - 0.5, red - green, blue - (red + green) / 2], 1)
    both = np.stack([np.maximum(signed, 0), np.maximum(-signed, 0)], axis=2)
    return both.reshape(len(images), len(OPPONENT_CHANNELS), *images.shape[1:3])


def gabor_filters(size: int) -> np.ndarray:
    """Frequency responses (orientations * scales, size, size) of complex Gabor filters.

    One octave wide, 45 degrees apart, without response to a uniform picture.
    """
    y, x = np.meshgrid(*[np.fft.fftfreq(size, 1 / size)] * 2, indexing="ij")
    angles = np.pi * np.arange(ORIENTATIONS) / ORIENTATIONS
    filters = [
        np.exp(-((x - f * np.cos(a)) ** 2 + (y - f * np.sin(a)) ** 2) / (2 * (0.4 * f) ** 2))
        for f in CYCLES
        for a in angles
    ]
    return np.stack(filters).astype(np.float32) * ((x != 0) | (y != 0))


def gabor_energy(images: np.ndarray) -> np.ndarray:
    """Amplitude (n, orientations * scales, h, w) of the lightness under each Gabor filter."""
    lightness = images.astype(np.float32).mean(axis=-1) / 255
    size = lightness.shape[1]
    margin = size // 8
    padded = np.pad(lightness, ((0, 0), (margin, margin), (margin, margin)), mode="reflect")
    # Frequencies are cycles per picture; the margin makes the padded picture larger.
    filters = gabor_filters(padded.shape[1])
    spectrum = scipy.fft.fft2(padded)[:, None]
    energy = [np.abs(scipy.fft.ifft2(spectrum * one)) for one in filters]
    inside = slice(margin, margin + size)
    return np.concatenate(energy, axis=1)[..., inside, inside]


def picture_channels(images: np.ndarray, *, batch: int = 128) -> np.ndarray:
    """All channels on the receptive fields' grid, float32 (n, CHANNELS, GRID * GRID), mean one."""
    cells = images.shape[1] // GRID
    parts = []
    for first in range(0, len(images), batch):
        some = images[first : first + batch]
        maps = np.concatenate([opponent_channels(some), gabor_energy(some)], axis=1)
        tiled = maps.reshape(len(some), CHANNELS, GRID, cells, GRID, cells)
        parts.append(tiled.mean(axis=(3, 5)).reshape(len(some), CHANNELS, GRID * GRID))
    channels = np.concatenate(parts)
    return channels / channels.mean(axis=(0, 2), keepdims=True)


def properties(scene: scenes.Scene) -> np.ndarray:
    """What a scene shows: float32 counts of each kind, colour, size, place and background."""
    counts = [
        [sum(getattr(item, name) == value for item in scene.objects) for value in values]
        for name, values in (
            ("kind", scenes.KINDS),
            ("colour", scenes.COLOURS),
            ("size", scenes.SIZES),
            ("place", scenes.PLACES),
        )
    ]
    background = [scene.background == name for name in scenes.BACKGROUNDS]
    return np.array([value for group in [*counts, background] for value in group], np.float32)


# --- voxels ----------------------------------------------------------------------------------


def draw_tuning(rng: np.random.Generator, *, voxels: int, mean_ceiling: float) -> Tuning:
    """A subject's voxels, area after area.

    Args:
        rng: the subject's own generator.
        voxels: number of nsdgeneral voxels.
        mean_ceiling: mean three-trial noise ceiling over them, percent of variance.
    """
    names = np.repeat(list(AREAS), _share_out(voxels, [area.share for area in AREAS.values()]))
    areas = [AREAS[name] for name in names]
    centre = rng.random((voxels, 2))
    eccentricity = np.hypot(*(centre - 0.5).T)
    size = np.array([area.size for area in areas]) + eccentricity * [area.growth for area in areas]
    lower = (centre[:, 1] > 0.5).astype(int)
    return Tuning(
        label=np.array(
            [area.labels[side] for area, side in zip(areas, lower, strict=True)], np.uint8
        ),
        centre=centre.astype(np.float32),
        size=(size * rng.uniform(0.8, 1.25, voxels)).astype(np.float32),
        exponent=np.array([area.exponent for area in areas], np.float32),
        channel_weight=_draw_channel_weights(rng, voxels),
        semantic_weight=_draw_semantic_weights(rng, voxels),
        semantic_share=np.array([area.semantic for area in areas], np.float32),
        noise_ceiling=_draw_ceilings(rng, voxels, mean_ceiling),
    )


def _share_out(total: int, shares: Sequence[float]) -> np.ndarray:
    """Whole numbers that add up to ``total``, in proportion to ``shares``."""
    edges = np.round(total * np.cumsum(shares) / sum(shares)).astype(int)
    return np.diff(edges, prepend=0)


def _draw_channel_weights(rng: np.random.Generator, voxels: int) -> np.ndarray:
    """Preferences for a few opponent channels and for one orientation at one scale."""
    opponent = rng.gamma(0.35, size=(voxels, len(OPPONENT_CHANNELS)))
    angle = np.pi * np.arange(ORIENTATIONS) / ORIENTATIONS
    preferred, scale = rng.uniform(0, np.pi, voxels), rng.integers(len(CYCLES), size=voxels)
    oriented = np.exp(2 * (np.cos(2 * (angle - preferred[:, None])) - 1))
    energy = oriented[:, None, :] * (0.2 + (np.arange(len(CYCLES)) == scale[:, None]))[..., None]
    balance = rng.beta(0.6, 0.6, size=(voxels, 1))  # from pure colour to pure contrast
    parts = [
        (1 - balance) * opponent / opponent.sum(axis=1, keepdims=True),
        balance * energy.reshape(voxels, -1) / energy.sum(axis=(1, 2))[:, None],
    ]
    return np.concatenate(parts, axis=1).astype(np.float32)


def _draw_semantic_weights(rng: np.random.Generator, voxels: int) -> np.ndarray:
    """Mixed selectivity: each voxel prefers a few properties of any sort."""
    groups = (scenes.KINDS, scenes.COLOURS, scenes.SIZES, scenes.PLACES, scenes.BACKGROUNDS)
    number = sum(map(len, groups))
    weights = rng.normal(size=(voxels, number)) * rng.gamma(0.5, size=(voxels, number))
    return weights.astype(np.float32)


def _draw_ceilings(rng: np.random.Generator, voxels: int, mean: float) -> np.ndarray:
    """Noise ceilings from near 0 to about 80 percent, most of them low, with the given mean."""
    concentration = 4.5
    share = mean / 100
    drawn = rng.beta(concentration * share, concentration * (1 - share), size=voxels)
    return (100 * np.clip(drawn * share / drawn.mean(), 0, 0.8)).astype(np.float32)


# --- responses -------------------------------------------------------------------------------


def receptive_fields(tuning: Tuning) -> np.ndarray:
    """Gaussian weights (voxels, GRID * GRID) float32 that sum to one."""
    at = (np.arange(GRID) + 0.5) / GRID
    width = 2 * tuning.size[:, None] ** 2
    across = np.exp(-((at - tuning.centre[:, :1]) ** 2) / width)
    down = np.exp(-((at - tuning.centre[:, 1:]) ** 2) / width)
    fields = (down[:, :, None] * across[:, None, :]).reshape(len(tuning.size), -1)
    return (fields / fields.sum(axis=1, keepdims=True)).astype(np.float32)


def picture_responses(tuning: Tuning, channels: np.ndarray) -> np.ndarray:
    """Compressed sum of the channels under each receptive field: (n, voxels), standardised."""
    fields = receptive_fields(tuning)
    drive = np.zeros((len(channels), len(fields)), np.float32)
    for channel in range(CHANNELS):
        weighted = fields * tuning.channel_weight[:, channel, None]
        drive += np.ascontiguousarray(channels[:, channel]) @ weighted.T
    return _standardise(drive**tuning.exponent)


def semantic_responses(tuning: Tuning, shown: np.ndarray) -> np.ndarray:
    """Weighted properties (n, properties) of the scenes: (n, voxels), standardised."""
    return _standardise(np.tanh(_standardise(shown @ tuning.semantic_weight.T)))


def _standardise(values: np.ndarray) -> np.ndarray:
    """Mean 0 and variance 1 down each column; a constant column becomes 0."""
    centred = values - values.mean(axis=0)
    deviation = centred.std(axis=0)
    return np.divide(centred, deviation, out=np.zeros_like(centred), where=deviation > 0)


def noise_free_signal(tuning: Tuning, drawn: Iterable[scenes.Scene]) -> np.ndarray:
    """What each voxel would answer without noise: float32 (scenes, voxels), variance one."""
    drawn = list(drawn)
    channels = picture_channels(np.stack([scene.image for scene in drawn]))
    shown = np.stack([properties(scene) for scene in drawn])
    share = tuning.semantic_share
    mixed = np.sqrt(1 - share) * picture_responses(tuning, channels)
    return _standardise(mixed + np.sqrt(share) * semantic_responses(tuning, shown))


def noise_deviation(tuning: Tuning) -> np.ndarray:
    """Standard deviation (voxels,) of a single trial's noise, beside a signal of variance one."""
    return 1 / np.maximum(ratio_of(tuning.noise_ceiling), 0.02)


def shared_patterns(
    rng: np.random.Generator, positions: np.ndarray, *, patterns: int = 12
) -> np.ndarray:
    """Smooth patterns (patterns, voxels) of noise that neighbours share; each voxel's squares sum
    to one.

    Args:
        rng: the subject's own generator.
        positions: (voxels, 3) place of each voxel in the volume.
        patterns: number of independent sources.
    """
    sources = positions[rng.choice(len(positions), patterns)]
    distance = np.linalg.norm(positions[None] - sources[:, None], axis=-1)
    bumps = np.exp(-((distance / (0.3 * np.ptp(positions, axis=0).max())) ** 2)) + 0.05
    signed = bumps * rng.choice([-1, 1], (patterns, 1))
    return (signed / np.linalg.norm(signed, axis=0)).astype(np.float32)


def draw_noise(
    rng: np.random.Generator, *, trials: int, patterns: np.ndarray, shared: float
) -> np.ndarray:
    """Noise of variance one, float32 (trials, voxels), of which ``shared`` follows the patterns."""
    own = rng.standard_normal((trials, patterns.shape[1]), dtype=np.float32)
    sources = rng.standard_normal((trials, len(patterns)), dtype=np.float32)
    return np.sqrt(1 - shared) * own + np.sqrt(shared) * (sources @ patterns)
