"""Pearson correlations in float64, of rows with rows and of columns seen image by image.

A constant row or column correlates with nothing: its correlation is defined as 0.
"""

import torch
from torch import Tensor

SMALLEST_SPREAD = 1e-12  # of the root mean square: below it, a row is constant but for rounding


def unit_rows(rows: Tensor) -> Tensor:
    """Rows without their mean and of length 1, float64; constant rows become 0.

    Args:
        rows: (..., d) of any real dtype.
    """
    rows = rows.double()
    centred = rows - rows.mean(dim=-1, keepdim=True)
    length = centred.norm(dim=-1, keepdim=True)
    constant = length <= SMALLEST_SPREAD * rows.norm(dim=-1, keepdim=True)
    return (centred / torch.where(constant, 1.0, length)).masked_fill(constant, 0.0)


def paired_correlation(first: Tensor, second: Tensor) -> Tensor:
    """Pearson r of each row with its partner: (..., d) and (..., d) to (...)."""
    return (unit_rows(first) * unit_rows(second)).sum(dim=-1)


def cross_correlation(first: Tensor, second: Tensor) -> Tensor:
    """Pearson r of every row with every row: (n, d) and (m, d) to (n, m)."""
    return unit_rows(first) @ unit_rows(second).T


def column_correlation(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Pearson r of each column over the rows, and each row's value in the mean r over columns.

    A row's value is the mean over columns of r plus the row's influence on r, n x y - n r (x^2 +
    y^2) / 2 for the standardised x and y. The values average exactly to the mean of r, and
    resampling them moves the columns' means and deviations with the rows, to first order.

    Args:
        first, second: (n, d).

    Returns:
        r (d,) and values (n,).
    """
    x, y = unit_rows(first.T), unit_rows(second.T)  # (d, n)
    products, number = x * y, x.shape[1]
    r = products.sum(dim=1)
    spread = (x.square() + y.square()) / 2
    return r, number * (products - r[:, None] * spread).mean(dim=0) + r.mean()
