"""Teachers of the low-level pipeline: features of clean and augmented images to be imitated.

Registry ``TEACHERS``: how each teacher is loaded. A loaded teacher maps ids, step and grid to two
sets of unit vectors.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from neuraldiffuser.decoders.augmentation import augment
from neuraldiffuser.errors import ConfigError
from neuraldiffuser.features.images import resize
from neuraldiffuser.features.vae_latent import load_autoencoder
from neuraldiffuser.nsd.stimuli import read_images

Teacher = Callable[[np.ndarray, torch.Generator], tuple[torch.Tensor, torch.Tensor]]


@dataclass(frozen=True)
class TeacherFiles:
    """What a teacher reads: the autoencoder's folder and the stimuli."""

    autoencoder: Path
    stimuli: Path


@dataclass(frozen=True)
class AutoencoderTeacher:
    """The autoencoder's own encoder, read after its middle block and averaged onto the maps' grid.

    Attributes:
        encoder: frozen; images (n, 3, h, w) in [-1, 1].
        images: (images, 3, h, w) uint8 on the host, where a hundred thousand of them fit.
        image_ids: (images,) ascending 73k ids.
        image_size: pixels a side that the encoder sees.
        grid: (height, width) of the maps.
    """

    encoder: nn.Module
    images: torch.Tensor
    image_ids: np.ndarray
    image_size: int
    grid: tuple[int, int]

    def __call__(
        self, ids: np.ndarray, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Unit vectors of clean and of augmented images, each (n * height * width, channels)."""
        rows = torch.from_numpy(np.searchsorted(self.image_ids, ids))
        images = self.images[rows].to(next(self.encoder.parameters()).device).float() / 255
        images = resize(images, self.image_size, antialias=True)
        return self._vectors(images), self._vectors(augment(images, generator))

    @torch.no_grad()
    def _vectors(self, images: torch.Tensor) -> torch.Tensor:
        kept = []
        handle = self.encoder.mid_block.register_forward_hook(lambda *call: kept.append(call[2]))
        self.encoder(images * 2 - 1)
        handle.remove()
        return map_vectors(functional.adaptive_avg_pool2d(kept[0], self.grid))


def map_vectors(maps: torch.Tensor) -> torch.Tensor:
    """(n, channels, h, w) to one L2-normalised row per position, (n * h * w, channels)."""
    return functional.normalize(maps.float().permute(0, 2, 3, 1).flatten(1, 2), dim=2)


def load_autoencoder_teacher(
    files: TeacherFiles,
    *,
    ids: np.ndarray,
    latent_size: int,
    grid: tuple[int, int],
    device: str,
) -> AutoencoderTeacher:
    """Loads an autoencoder and the images ``ids``; latents have ``latent_size`` pixels a side."""
    autoencoder = load_autoencoder(files.autoencoder, device=device)
    images = read_images(files.stimuli, ids)
    return AutoencoderTeacher(
        encoder=autoencoder.encoder,
        images=torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(),
        image_ids=ids,
        image_size=latent_size * 2 ** (len(autoencoder.config.block_out_channels) - 1),
        grid=grid,
    )


def refuse_convnext(_: TeacherFiles, **__: object) -> Teacher:
    """Raises ConfigError: the released teacher's weights cannot be loaded yet."""
    raise ConfigError(
        "decoder.low_level.teacher is convnext, whose weights (VICRegL ConvNeXt-XL) this version "
        "cannot load; choose autoencoder or none."
    )


TEACHERS: dict[str, Callable[..., Teacher]] = {
    "autoencoder": load_autoencoder_teacher,
    "convnext": refuse_convnext,
}
