"""Teachers of the latent decoder with random weights, of any width; the real ones are named."""

from pathlib import Path

import neuraldiffuser.torchvision_schemas  # noqa: F401  before everything that loads torchvision

import torch
from diffusers import AutoencoderKL
from torch import nn

from neuraldiffuser.decoders.teachers import EncoderMaps, Viewer
from neuraldiffuser.features.vicregl import LocalFeatures

STABLE_DIFFUSION = 128  # width
CONVNEXT_XL = (256, (3, 3, 27, 3))  # width and depths
PROJECTOR = (512, 512, 512)


def autoencoder_maps(width: int, *, grid: tuple[int, int] = (16, 16)) -> nn.Module:
    """The encoder of an autoencoder of Stable Diffusion's form, averaged onto a grid."""
    autoencoder = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(width, 2 * width, 4 * width, 4 * width),
        layers_per_block=2,
        norm_num_groups=min(width, 32),
    )
    return frozen(EncoderMaps(autoencoder.encoder, grid))


def convnext_maps(width: int, depths: tuple[int, ...]) -> nn.Module:
    """VICRegL's ConvNeXt and its projector of maps."""
    widths = tuple(width * 2**stage for stage in range(4))
    return frozen(LocalFeatures(depths, widths, PROJECTOR).to(memory_format=torch.channels_last))


def frozen(network: nn.Module) -> nn.Module:
    """For looking only."""
    return network.eval().requires_grad_(False)


def viewer_of(network: nn.Module, size: int, precision: str) -> Viewer:
    """Sees by ``network``; has no stimuli."""
    return Viewer(network=network, size=size, stimuli=Path(), precision=precision)
