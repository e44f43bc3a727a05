"""Guidance by edges: where in the image something begins or ends, however strong the contrast."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from neuraldiffuser.diffusion.guidance.base import Guidance, GuidanceSource
from neuraldiffuser.diffusion.guidance.decoded_image import DecodedImageGuidance
from neuraldiffuser.features.images import resize

# Change per pixel below which there is no edge: keeps gradients small where an image is flat.
FAINTEST_EDGE = 1e-3


class EdgesGuidance(DecodedImageGuidance):
    """1 - correlation over pixels of blurred edge strengths.

    The correlation leaves out how strong edges are overall: decoded latents are blurred, and
    guidance shall not blur the image as well.
    """

    def __init__(
        self, decode: Callable[[Tensor], Tensor], *, size: int, blur: float, device: str = "cpu"
    ) -> None:
        """Takes latents-to-images, the pixels a side that are looked at, and the blur's sigma."""
        super().__init__(decode)
        self.size = size
        self.slopes = make_sobel_kernels().to(device)
        self.blur = make_gaussian_kernel(blur).to(device)

    def describe(self, images: Tensor) -> Tensor:
        """Edge strengths: Sobel slopes' Euclidean norm over directions and channels, blurred.

        Args:
            images: (n, 3, h, w).

        Returns:
            (n, 1, size - 2, size - 2): there is no slope at the border.
        """
        small = resize(images, self.size, antialias=True)
        slopes = F.conv2d(small, self.slopes.to(small), groups=3)  # (n, 6, size - 2, size - 2)
        squares = slopes.square().sum(dim=1, keepdim=True)
        strengths = (squares + FAINTEST_EDGE**2).sqrt()
        return average_nearby(strengths, self.blur.to(small))

    def compare(self, seen: Tensor, wanted: Tensor) -> Tensor:
        """1 - Pearson r over pixels, (n,); 1 where either has no edges."""
        deviations = (each - each.mean(dim=(1, 2, 3), keepdim=True) for each in (seen, wanted))
        return 1 - F.cosine_similarity(*(each.flatten(1) for each in deviations), eps=FAINTEST_EDGE)


def average_nearby(maps: Tensor, kernel: Tensor) -> Tensor:
    """Mean of each pixel's surroundings, weighted by the kernel, over what lies in the map.

    Args:
        maps: (n, 1, h, w).
        kernel: (1, 1, width, width), width odd.
    """
    weights = F.conv2d(torch.ones_like(maps[:1]), kernel, padding="same")
    return F.conv2d(maps, kernel, padding="same") / weights


def make_sobel_kernels() -> Tensor:
    """Change per pixel across and down in each of three channels, float64 (6, 1, 3, 3)."""
    across = torch.tensor([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], dtype=torch.float64) / 8
    return torch.stack([across, across.T])[:, None].repeat(3, 1, 1, 1)


def make_gaussian_kernel(sigma: float) -> Tensor:
    """A Gaussian cut off after three standard deviations, float64 (1, 1, width, width).

    Of a deviation of 0 it is a single pixel: no blur.
    """
    reach = math.ceil(3 * sigma)
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float64)
    kernel = torch.exp(-0.5 * offsets.square() / (sigma**2 or 1))
    kernel /= kernel.sum()
    return (kernel[:, None] * kernel)[None, None]


def build_edges(source: GuidanceSource) -> Guidance:
    """Compares with what the sampler's own model decodes."""
    settings = source.settings.edges
    return EdgesGuidance(
        source.decode, size=settings.size, blur=settings.blur, device=source.device
    )
