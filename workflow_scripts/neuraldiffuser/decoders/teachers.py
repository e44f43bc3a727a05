"""Teachers of the low-level pipeline: vectors of clean and augmented images to be imitated.

Registry ``TEACHERS``: the network behind each teacher. Clean images never change, so their vectors
are computed once, before the first step, by all processes together; at every step the teacher sees
new views alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from neuraldiffuser import runtime
from neuraldiffuser.config.decoder import LowLevel
from neuraldiffuser.decoders.augmentation import Draws, augment
from neuraldiffuser.decoders.checkpoints import digest
from neuraldiffuser.decoders.data import take_rows
from neuraldiffuser.decoders.optimisation import autocast
from neuraldiffuser.decoders.parallel import Share
from neuraldiffuser.decoders.shared_table import SharedTable
from neuraldiffuser.errors import ConfigError
from neuraldiffuser.features.images import place, resize, to_unit_range
from neuraldiffuser.features.vae_latent import load_autoencoder
from neuraldiffuser.features.vicregl import STRIDE, load_local_features
from neuraldiffuser.models.pins import look
from neuraldiffuser.nsd.stimuli import read_images

IMAGES_AT_ONCE = 16  # bounds the memory of a teacher, whatever the batch


@dataclass(frozen=True)
class TeacherFiles:
    """What a teacher reads, and what it keeps while a training lasts.

    Attributes:
        stimuli: nsd_stimuli.hdf5.
        weights: of its network; of a folder, any file of it.
        vectors: of the clean images, written where they are not there yet.
    """

    stimuli: Path
    weights: Path
    vectors: Path


@dataclass(frozen=True)
class Sizes:
    """Of what imitates a teacher: side of the latent, and (height, width) of the maps."""

    latent: int
    maps: tuple[int, int]


@dataclass(frozen=True)
class Viewer:
    """A frozen network that makes a unit vector of every position of an image.

    Attributes:
        network: images (n, 3, size, size) in [0, 1] to maps (n, channels, height, width).
        size: pixels a side of the images that it is shown.
        stimuli: nsd_stimuli.hdf5, from which they are read.
        precision: of its arithmetic, a key of ``optimisation.PRECISIONS``.
    """

    network: nn.Module
    size: int
    stimuli: Path
    precision: str

    @property
    def device(self) -> torch.device:
        """Where the network lies."""
        return next(self.network.parameters()).device

    def pictures(self, ids: np.ndarray) -> torch.Tensor:
        """The stimuli with these ids, (n, 3, size, size) in [0, 1]."""
        images = place(read_images(self.stimuli, ids), self.device.type)
        return resize(to_unit_range(images), self.size, antialias=True)

    @torch.no_grad()
    def vectors(self, images: torch.Tensor) -> torch.Tensor:
        """(n, 3, size, size) in [0, 1] to (n, positions, channels) float32 unit vectors."""
        with autocast(self.device, self.precision):
            parts = [map_vectors(self.network(part)) for part in images.split(IMAGES_AT_ONCE)]
        return torch.cat(parts)


@dataclass(frozen=True)
class Teacher:
    """A viewer that has seen every clean image before.

    Attributes:
        viewer: what it sees by.
        image_ids: (images,) ascending 73k ids.
        clean: (images, positions, channels) float16 unit vectors, mapped from their file; 16.5 GB
            where seven subjects saw 9,000 images each and the maps are 16 x 16.
    """

    viewer: Viewer
    image_ids: np.ndarray
    clean: torch.Tensor

    def __call__(
        self, ids: np.ndarray, generator: torch.Generator, share: Share
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Vectors of clean and of augmented images.

        Args:
            ids: (n,) 73k ids of the whole batch.
            generator: on the viewer's device; drawn from for the whole batch.
            share: which of its images are wanted.

        Returns:
            Twice (images of the share, positions, channels) float32 unit vectors.
        """
        own, device = share.take(ids), self.viewer.device
        clean = take_rows(self.clean, np.searchsorted(self.image_ids, own), device)
        with autocast(device, "fp32"):  # few bits would displace pixels
            views = augment(self.viewer.pictures(own), Draws(len(ids), generator, share))
        return functional.normalize(clean, dim=2), self.viewer.vectors(views)


class EncoderMaps(nn.Module):
    """An autoencoder's encoder up to its middle block, averaged onto a grid."""

    def __init__(self, encoder: nn.Module, grid: tuple[int, int]) -> None:
        super().__init__()
        self.encoder = encoder
        self.grid = grid

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images (n, 3, h, w) in [0, 1] to maps (n, channels, *grid)."""
        x = self.encoder.conv_in(images * 2 - 1)
        for block in self.encoder.down_blocks:
            x = block(x)
        return functional.adaptive_avg_pool2d(self.encoder.mid_block(x), self.grid)


def map_vectors(maps: torch.Tensor) -> torch.Tensor:
    """Maps (n, channels, h, w) to unit vectors (n, h * w, channels), one per position."""
    return functional.normalize(maps.float().permute(0, 2, 3, 1).flatten(1, 2), dim=2)


def load_encoder_maps(weights: Path, sizes: Sizes, device: str) -> tuple[nn.Module, int]:
    """The autoencoder's own encoder, and the size of images that have latents of that size."""
    autoencoder = load_autoencoder(weights.parent, device=device)
    factor = 2 ** (len(autoencoder.config.block_out_channels) - 1)
    return EncoderMaps(autoencoder.encoder, sizes.maps), sizes.latent * factor


def load_convnext_maps(weights: Path, sizes: Sizes, device: str) -> tuple[nn.Module, int]:
    """VICRegL's ConvNeXt, and the size of images of which it makes maps of that size.

    For the 16 x 16 maps of Stable Diffusion's latents that is 512 pixels, as in the released code,
    which however enlarges images that were shrunk to 224 pixels before.
    """
    return load_local_features(weights, device=device), sizes.maps[0] * STRIDE


TEACHERS: dict[str, Callable[[Path, Sizes, str], tuple[nn.Module, int]]] = {
    "autoencoder": load_encoder_maps,
    "convnext": load_convnext_maps,
}


def load_teacher(
    files: TeacherFiles,
    low_level: LowLevel,
    *,
    ids: np.ndarray,
    sizes: Sizes,
    precision: str,
    device: str,
) -> Teacher:
    """Loads the network that ``low_level.teacher`` names and shows it the clean images.

    Args:
        files: what it reads and keeps.
        low_level: names the teacher; its projector must be as wide as the teacher's maps.
        ids: (images,) ascending 73k ids of all images that will be asked for.
        sizes: of latent and maps.
        precision: of its arithmetic, a key of ``optimisation.PRECISIONS``.
        device: torch device.

    Raises:
        ConfigError: the projector has another width.
        DataError: the weights or the stimuli are missing or damaged.
    """
    network, size = TEACHERS[low_level.teacher](files.weights, sizes, device)
    viewer = Viewer(network, size, files.stimuli, precision)
    _, positions, channels = viewer.vectors(viewer.pictures(ids[:1])).shape
    if channels != low_level.projector_width:
        raise ConfigError(
            f"decoder.low_level.projector_width is {low_level.projector_width}, but the maps of "
            f"the teacher {low_level.teacher} have {channels} channels; set it to {channels}."
        )
    identity = identity_of(low_level.teacher, files, ids=ids, sizes=sizes, precision=precision)
    table = SharedTable(files.vectors, identity, (len(ids), positions, channels))
    clean = table.rows(
        lambda rows: viewer.vectors(viewer.pictures(ids[rows])),
        at_once=IMAGES_AT_ONCE,
        description="shows the teacher images",
        unit="image",
    )
    return Teacher(viewer, ids, clean)


def identity_of(
    teacher: str, files: TeacherFiles, *, ids: np.ndarray, sizes: Sizes, precision: str
) -> str:
    """Digest of everything that the vectors of clean images come from."""
    seen = look(files.weights), look(files.stimuli)
    texts = (teacher, *seen, str(sizes), precision, runtime.execution().code)
    return digest("\n".join(texts), [torch.from_numpy(ids)])
