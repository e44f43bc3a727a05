"""How alike the repeated reconstructions of one image are."""

from torch import Tensor

from neuraldiffuser.evaluation.correlation import unit_rows


def repeat_consistency(repeats: Tensor) -> Tensor:
    """Mean Pearson r over all pairs of repeats, image by image.

    With unit rows u, the pairs sum to (|sum u|^2 - sum |u|^2) / 2.

    Args:
        repeats: (n, r, pixels), r >= 2.

    Returns:
        (n,) float64.
    """
    unit = unit_rows(repeats)
    number = unit.shape[1]
    together = unit.sum(dim=1).square().sum(dim=-1)
    alone = unit.square().sum(dim=(1, 2))
    return (together - alone) / (number * (number - 1))
