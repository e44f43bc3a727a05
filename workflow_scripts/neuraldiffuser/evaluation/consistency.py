"""How alike the repeated reconstructions of one image are."""

from torch import Tensor

from neuraldiffuser.evaluation.correlation import correlate, standardise


def repeat_consistency(repeats: Tensor) -> Tensor:
    """Mean Pearson r over all pairs of repeats, image by image.

    Args:
        repeats: (n, r, pixels), r >= 2.

    Returns:
        (n,) float64; repeats of one colour correlate with nothing.
    """
    rows = standardise(repeats)
    pairs = correlate(rows, rows).triu(diagonal=1)
    number = repeats.shape[1]
    return pairs.sum(dim=(1, 2)) / (number * (number - 1) / 2)
