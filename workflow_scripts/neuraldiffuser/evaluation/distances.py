"""Distances between the features of a stimulus and of its reconstruction."""

from torch import Tensor


def correlation_distance(correlations: Tensor) -> Tensor:
    """1 - Pearson r of each reconstruction with its own stimulus; 0 is best.

    Args:
        correlations: (repeats, n, n), stimuli in rows, reconstructions in columns.

    Returns:
        (n, repeats) float64.
    """
    return 1.0 - correlations.diagonal(dim1=1, dim2=2).T
