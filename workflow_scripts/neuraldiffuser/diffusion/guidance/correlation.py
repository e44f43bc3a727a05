"""Pearson correlation of single images' values, differentiable."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

# Rows whose deviations from their mean are shorter than this are constant but for rounding.
SMALLEST_LENGTH = 1e-6


def correlate(first: Tensor, second: Tensor) -> Tensor:
    """Pearson r of each row with its partner; 0, without a gradient, where either is constant.

    Args:
        first: (n, ...) values of the order of one.
        second: of that shape.

    Returns:
        (n,)
    """
    return (standardise(first) * standardise(second)).sum(dim=1)


def standardise(values: Tensor) -> Tensor:
    """Rows (n, everything else) without their mean and of length one."""
    rows = values.flatten(1)
    centred = rows - rows.mean(dim=1, keepdim=True)
    lengths = centred.norm(dim=1, keepdim=True)
    return F.normalize(centred, dim=1).where(lengths > SMALLEST_LENGTH, 0)
