"""How much of a voxel's variance a perfect model could explain (NSD paper, Allen et al. 2022)."""

import numpy as np


def noise_ceiling(ncsnr: np.ndarray, *, trials: int = 3) -> np.ndarray:
    """100 * ncsnr^2 / (ncsnr^2 + 1 / trials): percent of the variance of a mean over ``trials``."""
    squared = np.square(ncsnr, dtype=np.float64)
    return 100 * squared / (squared + 1 / trials)


def ratio_of(ceiling: np.ndarray, *, trials: int = 3) -> np.ndarray:
    """The ncsnr whose noise ceiling (percent, for a mean over ``trials``) is ``ceiling``."""
    share = np.asarray(ceiling, np.float64) / 100
    return np.sqrt(share / (1 - share) / trials)


def explainable_share(ceiling: np.ndarray, *, trials: np.ndarray) -> np.ndarray:
    """Share of the variance of means over trials that no noise made, however many each is of.

    A mean over n trials has 1/n of the noise variance of one; so the share for a set of means
    follows from the mean of 1/n.

    Args:
        ceiling: (voxels,) noise ceiling of three-trial means, percent.
        trials: (images,) how many trials each mean is of.

    Returns:
        (voxels,) float64 in [0, 1].
    """
    signal = np.asarray(ceiling, np.float64) / 100
    noise = (1 - signal) * 3 * np.mean(1 / np.asarray(trials, np.float64))
    return signal / (signal + noise)


def estimate_ncsnr(betas: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Noise-ceiling signal-to-noise ratio of each voxel, from repeated presentations.

    The noise variance is the variance over the repeats of an image, averaged over images; the
    signal's is what remains of the total variance (NSD paper, "Noise ceiling estimation").

    Args:
        betas: (trials, voxels), normalised within each session; every image with equal repeats.
        ids: (trials,) image of each trial.

    Returns:
        (voxels,) float64, 0 where the signal's variance is estimated as negative.
    """
    order = np.argsort(ids, kind="stable")
    repeats = len(ids) // len(np.unique(ids))
    grouped = betas[order].reshape(-1, repeats, betas.shape[1])
    noise = grouped.var(axis=1, ddof=1, dtype=np.float64).mean(axis=0)
    signal = np.maximum(betas.var(axis=0, ddof=1, dtype=np.float64) - noise, 0)
    return np.sqrt(np.divide(signal, noise, out=np.zeros_like(signal), where=noise > 0))
