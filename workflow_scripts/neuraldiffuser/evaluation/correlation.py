"""Pearson correlations in float64, of rows with rows and of columns seen image by image.

A constant row or column correlates with nothing: its correlation is defined as 0.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

SMALLEST_SPREAD = 1e-12  # of the root mean square: below it, a row is constant but for rounding
ROUNDINGS = 8  # of a number of the row's own dtype: what resizing leaves of one grey value
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
    """Prepares rows (..., n, d) of any floating dtype for ``correlate``."""
    near, sums, squares = _near_mean(rows), 0.0, 0.0
    for block in _list_blocks(rows, near):
        sums += _sum_row(block)
        squares += _sum_row(block.square_())
    number = rows.shape[-1]
    mean = near + sums / number
    return Standardised(rows, mean, _to_length(squares - sums**2 / number, mean, rows))


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


def correlate_all(rows: Tensor) -> Tensor:
    """Pearson r of every row with every row of its set: (..., n, d) to (..., n, n) float64.

    One pass over blocks of columns, for sets of few rows.
    """
    near, sums, products = _near_mean(rows), 0.0, 0.0
    for block in _list_blocks(rows, near):
        sums += _sum_row(block)
        products += block @ block.mT
    number = rows.shape[-1]
    products -= sums * sums.mT / number
    squares = products.diagonal(dim1=-2, dim2=-1).unsqueeze(-1)
    length = _to_length(squares, near + sums / number, rows)
    return products / (length * length.mT)


def _near_mean(rows: Tensor) -> Tensor:
    """The mean but for rounding, (..., n, 1) float64: sums of what is left do not cancel."""
    return rows.mean(dim=-1, keepdim=True).double()


def _smallest_spread(dtype: torch.dtype) -> float:
    rounding = torch.finfo(dtype).eps if dtype.is_floating_point else 0.0
    return max(SMALLEST_SPREAD, ROUNDINGS * rounding)


def _to_length(squares: Tensor, mean: Tensor, rows: Tensor) -> Tensor:
    all_squares = squares + rows.shape[-1] * mean**2
    constant = squares <= _smallest_spread(rows.dtype) ** 2 * all_squares
    return squares.sqrt().masked_fill(constant, torch.inf)


def _list_blocks(rows: Tensor, shift: Tensor) -> Iterator[Tensor]:
    """Columns by blocks less a number of each row, (..., n, columns) float64."""
    for columns in _list_columns(rows.shape[-1]):
        yield rows[..., columns].to(torch.float64, copy=True).sub_(shift)


def _list_columns(number: int) -> Iterator[slice]:
    return (slice(start, start + COLUMNS_AT_ONCE) for start in range(0, number, COLUMNS_AT_ONCE))


def _sum_row(values: Tensor) -> Tensor:
    return values.sum(dim=-1, keepdim=True)


def unit_rows(rows: Tensor) -> Tensor:
    """Rows without their mean and of length 1, float64; constant rows become 0.

    Args:
        rows: (..., d) of any real dtype.
    """
    exact = rows.double()
    centred = exact - exact.mean(dim=-1, keepdim=True)
    length = centred.norm(dim=-1, keepdim=True)
    constant = length <= _smallest_spread(rows.dtype) * exact.norm(dim=-1, keepdim=True)
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
