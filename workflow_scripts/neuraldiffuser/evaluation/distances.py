"""Distances between the features of a stimulus and of its reconstruction; 0 is best."""

import torch
from torch import Tensor


def correlation_distance(correlations: Tensor) -> Tensor:
    """1 - Pearson r of each reconstruction with its own stimulus.

    Args:
        correlations: (repeats, n, n), stimuli in rows, reconstructions in columns.

    Returns:
        (n, repeats) float64.
    """
    return 1.0 - correlations.diagonal(dim1=1, dim2=2).T


def perceptual_distance(stimuli: Tensor, reconstructions: Tensor) -> Tensor:
    """Squared distance of each reconstruction to its own stimulus: LPIPS of what LPIPS sees.

    Args:
        stimuli, reconstructions: (n, d), row by row of the same images.

    Returns:
        (n,) float64.
    """
    pairs = zip(stimuli, reconstructions, strict=True)  # one by one: d is about 640,000
    squares = [(first - second).square().sum(dtype=torch.float64) for first, second in pairs]
    return torch.stack(squares)
