"""Latents of images: the low-level target."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import neuraldiffuser.torchvision_schemas  # noqa: F401  before diffusers

import numpy as np
import torch
from torch import nn

from neuraldiffuser.features import images as preprocessing
from neuraldiffuser.features.pretrained import load_pretrained


def load_autoencoder(
    path: Path, *, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> nn.Module:
    """Loads a frozen AutoencoderKL from a folder with config.json and safetensors.

    Raises:
        DataError: a file or a weight is missing or unreadable.
    """
    from diffusers import AutoencoderKL

    return load_pretrained(AutoencoderKL, path, device=device, dtype=dtype)


def load_encoder(
    path: Path, *, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> nn.Module:
    """The half of an autoencoder that encodes; see ``load_autoencoder``."""
    autoencoder = load_autoencoder(path, dtype=dtype)
    autoencoder.decoder = autoencoder.post_quant_conv = None
    # Convolutions are fastest where the channels of a pixel lie side by side.
    return autoencoder.to(device=device, memory_format=torch.channels_last)


def resize_stimuli(images: np.ndarray, *, image_size: int, source_size: int | None) -> np.ndarray:
    """(n, h, w, 3) uint8 stimuli at ``image_size`` by PIL's Lanczos filter, on the host.

    With a ``source_size`` they are left as they are: ``normalise_stimuli`` resizes them.
    """
    if source_size is None:
        return preprocessing.resize_with_lanczos(images, image_size)
    return images


def normalise_stimuli(
    images: np.ndarray | torch.Tensor, *, image_size: int, source_size: int | None
) -> torch.Tensor:
    """Stimuli from ``resize_stimuli`` as the autoencoder sees them, on the device they are on.

    Args:
        images: (n, h, w, 3) uint8.
        image_size: pixels a side of the result.
        source_size: shrink to this size first and enlarge again, both bilinear and filtered, as
            the released training target does; None for the stimuli themselves.

    Returns:
        (n, 3, image_size, image_size) float32 in [-1, 1].
    """
    unit = preprocessing.to_unit_range(images)
    if source_size is not None:
        # ASSUME: how the released 224-pixel file was made is not documented.
        shrunk = preprocessing.resize(unit, source_size, antialias=True)
        unit = preprocessing.resize(shrunk, image_size, antialias=True)
    return unit * 2 - 1


def take_mode(distribution: Any, _draw: Callable[[], torch.Tensor]) -> torch.Tensor:
    """The distribution's mean."""
    return distribution.mean


def take_sample(distribution: Any, draw: Callable[[], torch.Tensor]) -> torch.Tensor:
    """One draw from the distribution, made of the standard normal numbers that ``draw`` gives."""
    return distribution.mean + distribution.std * draw().to(distribution.mean)


POSTERIORS = {"mode": take_mode, "sample": take_sample}


@torch.inference_mode()
def encode_latents(
    autoencoder: nn.Module,
    images: torch.Tensor,
    *,
    posterior: str,
    draw: Callable[[], torch.Tensor],
) -> torch.Tensor:
    """Latents multiplied by the autoencoder's own scaling factor.

    Args:
        autoencoder: from ``load_autoencoder``.
        images: (n, 3, h, w) in [-1, 1].
        posterior: a key of ``POSTERIORS``.
        draw: gives (n, channels, h/f, w/f) standard normal numbers; called by "sample" alone.

    Returns:
        (n, channels, h/f, w/f) float32.
    """
    placed = images.to(device=autoencoder.device, dtype=autoencoder.dtype)
    distribution = autoencoder.encode(placed).latent_dist
    latents = POSTERIORS[posterior](distribution, draw)
    return latents.float() * autoencoder.config.scaling_factor


def latent_shape(autoencoder: nn.Module, image_size: int) -> tuple[int, int, int]:
    """(channels, height, width) of the latents of images with ``image_size`` pixels a side."""
    factor = 2 ** (len(autoencoder.config.block_out_channels) - 1)
    return autoencoder.config.latent_channels, image_size // factor, image_size // factor


def draw_noise(ids: np.ndarray, *, shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """(n, *shape) standard normal float32, each row drawn from (seed, 73k id) alone."""
    rows = [
        np.random.default_rng((seed, int(id_73k))).standard_normal(shape, dtype=np.float32)
        for id_73k in ids
    ]
    return torch.from_numpy(np.stack(rows))
