"""Self-attention guidance (Hong et al. 2023, https://arxiv.org/abs/2210.00939).

The denoiser is steered away from what it predicts once the places it attends to are blurred.
Follows diffusers' StableDiffusionSAGPipeline, which the authors of the paper used: the
unconditional prediction, its attention above 1.0 as a mask, a Gaussian of one latent pixel.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from neuraldiffuser.diffusion.schedule import Step

BLUR_WIDTH = 9  # pixels of the latent
BLUR_SIGMA = 1.0
ATTENTION_THRESHOLD = 1.0  # what a place receives on average


def degrade(latents: Tensor, noise: Tensor, *, attention: Tensor, step: Step) -> Tensor:
    """The noisy latents, blurred where the denoiser attends.

    Args:
        latents: z_t, (n, c, h, w).
        noise: the unconditional prediction for them.
        attention: what each place received in that prediction, (n, h', w').
        step: the noise level of the latents.

    Returns:
        (n, c, h, w): the clean estimate, blurred within the mask, with the same noise again.
    """
    signal, spread = math.sqrt(step.alpha_bar), math.sqrt(1 - step.alpha_bar)
    clean = (latents - spread * noise) / signal
    mask = attention_mask(attention, latents.shape[-2:]).to(latents.dtype)
    blurred = torch.lerp(clean, gaussian_blur(clean), mask)
    return signal * blurred + spread * noise


def attention_mask(attention: Tensor, size: tuple[int, int]) -> Tensor:
    """Places that receive more than their share, float (n, 1, *size), 0 or 1."""
    attended = (attention > ATTENTION_THRESHOLD).float()[:, None]
    return F.interpolate(attended, size=tuple(size))


def gaussian_blur(images: Tensor) -> Tensor:
    """Gaussian blur of (n, c, h, w), reflecting at the borders."""
    down, across = (place_blur(size, images.dtype, images.device) for size in images.shape[-2:])
    return down @ images @ across.T


@lru_cache(maxsize=16)
def place_blur(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The blur along an axis, where images are blurred."""
    return torch.from_numpy(blur_matrix(size)).to(device, dtype)


def blur_matrix(size: int) -> np.ndarray:
    """The blur along an axis as a matrix, float64 (size, size); rows sum to one.

    A matrix product is exact at any size, also where the kernel is wider than the latent.
    """
    reach = BLUR_WIDTH // 2
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / BLUR_SIGMA) ** 2)
    kernel /= kernel.sum()
    padded = np.pad(np.eye(size), ((reach, reach), (0, 0)), mode="reflect")
    return sum(weight * padded[offset : offset + size] for offset, weight in enumerate(kernel))
