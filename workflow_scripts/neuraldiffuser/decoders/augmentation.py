"""Random views of images for the low-level teacher, in batches, from an explicit generator.

The released code (HaoyyLi/NeuralDiffuser, src/train_z.py) chains kornia's colour jitter (p = 0.8),
greyscale (0.2), solarisation (0.2), 7-pixel blur (0.1) and random resized crop (area 0.5 to 1).
"""

import math
from dataclasses import dataclass

import torch
from torch.nn import functional

from neuraldiffuser.decoders.parallel import Share

GREY = (0.299, 0.587, 0.114)
BLUR_PIXELS = 7


@dataclass(frozen=True)
class Draws:
    """Random numbers, one per image of a share, shaped (n, 1, 1, 1) to fit its part of a batch.

    They are drawn for all ``count`` images of the batch, so that shares change none of them.
    """

    count: int
    generator: torch.Generator
    share: Share = Share()

    def uniform(self, low: float, high: float) -> torch.Tensor:
        """Numbers between ``low`` and ``high``."""
        shape, device = (self.count, 1, 1, 1), self.generator.device
        drawn = torch.rand(shape, generator=self.generator, device=device)
        return low + (high - low) * self.share.take(drawn)

    def chosen(self, probability: float) -> torch.Tensor:
        """True with ``probability``."""
        return self.uniform(0, 1) < probability


def augment(images: torch.Tensor, draws: Draws) -> torch.Tensor:
    """Images (n, 3, h, w) in [0, 1] to views of the same shape and range."""
    x = torch.where(draws.chosen(0.8), jitter(images, draws), images)
    x = torch.where(draws.chosen(0.2), to_grey(x), x)
    solarised = solarise(x, added=draws.uniform(-0.1, 0.1), threshold=draws.uniform(0.4, 0.6))
    x = torch.where(draws.chosen(0.2), solarised, x)
    x = torch.where(draws.chosen(0.1), blur(x, draws.uniform(0.1, 2.0)), x)
    return crop(
        x,
        area=draws.uniform(0.5, 1),
        ratio=draws.uniform(math.log(3 / 4), math.log(4 / 3)).exp(),
        across=draws.uniform(-1, 1),
        down=draws.uniform(-1, 1),
    )


def jitter(images: torch.Tensor, draws: Draws) -> torch.Tensor:
    """Brightness and contrast by up to 0.4, saturation by up to 0.2, hue by up to 0.1 turns."""
    x = (images * draws.uniform(0.6, 1.4)).clamp(0, 1)
    mean = to_grey(x).mean(dim=(1, 2, 3), keepdim=True)
    x = torch.lerp(mean, x, draws.uniform(0.6, 1.4)).clamp(0, 1)
    x = torch.lerp(to_grey(x), x, draws.uniform(0.8, 1.2)).clamp(0, 1)
    return turn_hue(x, draws.uniform(-0.1, 0.1) * 2 * math.pi)


def to_grey(images: torch.Tensor) -> torch.Tensor:
    """Luma in all three channels."""
    luma = sum(weight * channel for weight, channel in zip(GREY, images.unbind(1), strict=True))
    return luma[:, None].expand_as(images)


def solarise(images: torch.Tensor, *, added: torch.Tensor, threshold: torch.Tensor) -> torch.Tensor:
    """Brightens by ``added``, then inverts what reaches ``threshold``; both (n, 1, 1, 1)."""
    x = (images + added).clamp(0, 1)
    return torch.where(x >= threshold, 1 - x, x)


def turn_hue(images: torch.Tensor, angle: torch.Tensor) -> torch.Tensor:
    """Rotates colours about the grey axis by ``angle`` radians, (n, 1, 1, 1)."""
    rolled, back = images.roll(1, dims=1), images.roll(-1, dims=1)
    # Rodrigues' formula about (1, 1, 1) / sqrt(3).
    mean = images.mean(dim=1, keepdim=True)
    turned = mean + (images - mean) * angle.cos() + (rolled - back) * angle.sin() / 3**0.5
    return turned.clamp(0, 1)


def blur(images: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """Gaussian blur over seven pixels with one ``sigma`` per image, (n, 1, 1, 1)."""
    offsets = torch.arange(BLUR_PIXELS, device=images.device) - BLUR_PIXELS // 2
    kernel = torch.exp(-(offsets**2) / (2 * sigma.flatten()[:, None] ** 2))
    kernel = (kernel / kernel.sum(dim=1, keepdim=True)).repeat_interleave(3, dim=0)  # (3 n, 7)
    n, _, height, width = images.shape
    x = functional.pad(images, [BLUR_PIXELS // 2] * 4, mode="reflect").flatten(0, 1)[None]
    x = functional.conv2d(x, kernel[:, None, :, None], groups=3 * n)
    x = functional.conv2d(x, kernel[:, None, None, :], groups=3 * n)
    return x.view(n, 3, height, width)


def crop(
    images: torch.Tensor,
    *,
    area: torch.Tensor,
    ratio: torch.Tensor,
    across: torch.Tensor,
    down: torch.Tensor,
) -> torch.Tensor:
    """A window per image, resized to the image's size; all arguments (n, 1, 1, 1).

    Args:
        images: (n, 3, h, w).
        area: of the window over the image's.
        ratio: width over height of the window.
        across: place between the leftmost (-1) and the rightmost (1) possible one.
        down: place between the uppermost and the lowest possible one.
    """
    width = (area * ratio).sqrt().clamp(max=1).flatten()
    height = (area / ratio).sqrt().clamp(max=1).flatten()
    zero = torch.zeros_like(width)
    place_x, place_y = across.flatten() * (1 - width), down.flatten() * (1 - height)
    rows = [torch.stack([width, zero, place_x], 1), torch.stack([zero, height, place_y], 1)]
    grid = functional.affine_grid(torch.stack(rows, 1), images.shape, align_corners=False)
    return functional.grid_sample(images, grid, align_corners=False, padding_mode="reflection")
