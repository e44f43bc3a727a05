"""The low-level pipeline: from voxels to the autoencoder's latent.

Sources: HaoyyLi/NeuralDiffuser, src/train_z.py (voxel encoder) and src/models.py
(Voxel2StableDiffusionModel), after MedARC-AI/fMRI-reconstruction-NSD, src/train_autoencoder.py.
"""

from collections.abc import Mapping

import neuraldiffuser.torchvision_schemas  # noqa: F401  (before diffusers imports torchvision)

import torch
from torch import nn

from neuraldiffuser.config.decoder import LowLevel, Network
from neuraldiffuser.decoders.parallel import Dropout
from neuraldiffuser.decoders.projector import maps_projector
from neuraldiffuser.decoders.voxel_encoder import VoxelEncoders
from neuraldiffuser.errors import DataError


class LowLevelDecoder(nn.Module):
    """Voxel encoder, residual perceptron, maps, convolutional upsampler; maps projector.

    Args:
        voxel_counts: number of voxels by subject.
        latent_shape: (channels, height, width) of the latent.
        network: hidden size and number of blocks.
        low_level: everything else.
    """

    # Not one: torch 2.13 compiles the upsampler's nearest-neighbour enlargement into a backward
    # pass that sends gradients of zero to everything before it, without a word.
    compiled_parts = ()

    def __init__(
        self,
        voxel_counts: Mapping[str, int],
        latent_shape: tuple[int, int, int],
        *,
        network: Network,
        low_level: LowLevel,
    ) -> None:
        super().__init__()
        size, channels = network.hidden_size, low_level.maps_channels
        self.maps_shape = (channels, *maps_size(latent_shape, low_level))
        self.voxel_encoder = VoxelEncoders(
            voxel_counts, lambda count: residual_block(count, size, low_level.encoder_dropout)
        )
        self.blocks = nn.ModuleList(
            [residual_block(size, size, low_level.dropout) for _ in range(network.blocks)]
        )
        self.to_maps = nn.Linear(
            size, channels * self.maps_shape[1] * self.maps_shape[2], bias=False
        )
        self.norm = nn.GroupNorm(1, channels)
        self.upsampler = convolutional_upsampler(latent_shape[0], low_level)
        if low_level.teacher != "none":
            self.projector = maps_projector(
                channels, low_level.projector_width, low_level.projector_width
            )

    def maps(self, voxels: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Trials by subject, (n, voxels) each, to normalised maps (n, channels, h, w)."""
        x = self.voxel_encoder(voxels)
        for block in self.blocks:
            x = block(x) + x
        return self.norm(self.to_maps(x).unflatten(1, self.maps_shape))

    def forward(self, voxels: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Trials by subject, (n, voxels) each, to latents (n, channels, height, width)."""
        return self.upsampler(self.maps(voxels))


def residual_block(inputs: int, outputs: int, dropout: float) -> nn.Sequential:
    """A linear layer without bias, normalised; also the voxel encoder of this pipeline."""
    return nn.Sequential(
        nn.Linear(inputs, outputs, bias=False),
        nn.LayerNorm(outputs),
        nn.SiLU(),
        Dropout(dropout),
    )


def maps_size(latent_shape: tuple[int, int, int], low_level: LowLevel) -> tuple[int, int]:
    """Height and width of the maps; raises DataError if the upsampler cannot reach the latent."""
    factor = 2 ** (len(low_level.upsampler_channels) - 1)
    height, width = latent_shape[1:]
    if height % factor or width % factor:
        raise DataError(
            f"the latent is {height} x {width}, which an upsampler of "
            f"{len(low_level.upsampler_channels)} levels cannot reach; give "
            "decoder.low_level.upsampler_channels fewer levels."
        )
    return height // factor, width // factor


def convolutional_upsampler(channels: int, low_level: LowLevel) -> nn.Module:
    """Diffusers' autoencoder decoder, from maps to a latent."""
    from diffusers.models.autoencoders.vae import Decoder

    return Decoder(
        in_channels=low_level.maps_channels,
        out_channels=channels,
        up_block_types=("UpDecoderBlock2D",) * len(low_level.upsampler_channels),
        block_out_channels=low_level.upsampler_channels,
        layers_per_block=1,
        norm_num_groups=low_level.upsampler_groups,
    )
