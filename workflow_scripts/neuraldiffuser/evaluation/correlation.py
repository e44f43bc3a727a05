"""Pearson correlations in float64, of rows with rows and of columns seen image by image.

A constant row or column correlates with nothing: its correlation is defined as 0.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

SMALLEST_SPREAD = 1e-12  # of the root mean square: below it, a row is constant but for rounding
COLUMNS_AT_ONCE = 8192  # of long rows, so that their float64 copies take little memory


@dataclass(frozen=True)
class Standardised:
    """Rows (..., n, d) as they are, with what makes them comparable: float64 (..., n, 1) each.

    ``length`` is that of the centred row, infinite where the row is constant.
    """

    rows: Tensor
    mean: Tensor
    length: Tensor

    def centred(self, columns: slice) -> Tensor:
        """Some columns without the rows' means, (..., n, columns) float64."""
        return self.rows[..., columns].to(torch.float64, copy=True).sub_(self.mean)


def standardise(rows: Tensor) -> Standardised:
    """Prepares rows (..., n, d) of any real dtype for ``correlate``."""
    number = rows.shape[-1]
    parts = list(_list_columns(number))
    mean = sum(_sum_row(rows[..., columns].double()) for columns in parts) / number
    centred = Standardised(rows, mean, torch.ones_like(mean))
    squares = sum(_sum_row(centred.centred(columns).square_()) for columns in parts)
    constant = squares <= SMALLEST_SPREAD**2 * (squares + number * mean**2)
    return Standardised(rows, mean, squares.sqrt().masked_fill(constant, torch.inf))


def correlate(first: Standardised, second: Standardised) -> Tensor:
    """Pearson r of every row with every row: (..., n, d) and (..., m, d) to (..., n, m) float64.

    The products are summed over blocks of columns, so that beside the result two blocks take
    memory, whatever d is.
    """
    products = sum(
        first.centred(columns) @ second.centred(columns).mT
        for columns in _list_columns(first.rows.shape[-1])
    )
    return products / (first.length * second.length.mT)


def _list_columns(number: int) -> Iterator[slice]:
    return (slice(start, start + COLUMNS_AT_ONCE) for start in range(0, number, COLUMNS_AT_ONCE))


def _sum_row(values: Tensor) -> Tensor:
    return values.sum(dim=-1, keepdim=True)


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
