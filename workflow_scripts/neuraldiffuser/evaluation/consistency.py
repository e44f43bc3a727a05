"""How alike the repeated reconstructions of one image are."""

from torch import Tensor


def repeat_consistency(correlations: Tensor) -> Tensor:
    """Mean Pearson r over all pairs of repeats, image by image.

    Args:
        correlations: Pearson r of each image's repeats with each other, (n, r, r), r >= 2.

    Returns:
        (n,) float64; repeats of one grey value correlate with nothing.
    """
    pairs, number = correlations.triu(diagonal=1), correlations.shape[1]
    return pairs.sum(dim=(1, 2)) / (number * (number - 1) / 2)
