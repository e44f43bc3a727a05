"""Guidance by colours: where in the image which colour lies, coarsely."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from neuraldiffuser.diffusion.guidance.base import Guidance, GuidanceSource
from neuraldiffuser.diffusion.guidance.decoded_image import DecodedImageGuidance
from neuraldiffuser.errors import ConfigError


class ColorGuidance(DecodedImageGuidance):
    """Squared differences of mean colours, summed over channels and cells of a square grid."""

    def __init__(self, decode: Callable[[Tensor], Tensor], *, grid: int) -> None:
        """Takes latents-to-images and how many cells there are along a side."""
        super().__init__(decode)
        self.grid = grid

    def describe(self, images: Tensor) -> Tensor:
        """Mean sRGB values, (n, 3, grid, grid).

        Raises:
            ConfigError: the cells would not be of equal size.
        """
        height, width = images.shape[-2:]
        if height % self.grid or width % self.grid:
            raise ConfigError(
                f"reconstruction.guidance.color.grid is {self.grid}, which does not divide images"
                f" of {height} x {width} pixels; name a divisor."
            )
        return F.avg_pool2d(images, (height // self.grid, width // self.grid))

    def compare(self, seen: Tensor, wanted: Tensor) -> Tensor:
        """Sum of squares, (n,)."""
        return (seen - wanted).square().flatten(1).sum(dim=1)


def build_color(source: GuidanceSource) -> Guidance:
    """Compares with what the sampler's own model decodes."""
    return ColorGuidance(source.decode, grid=source.settings.color.grid)
