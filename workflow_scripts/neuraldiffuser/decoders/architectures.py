"""The two decoding pipelines, and how a target and a recipe choose and size one of them."""

from collections.abc import Mapping

import torch
from torch import nn

from neuraldiffuser.config.decoder import Recipe
from neuraldiffuser.decoders.backbones import BACKBONES
from neuraldiffuser.decoders.low_level import LowLevelDecoder
from neuraldiffuser.decoders.prior import PriorNetwork
from neuraldiffuser.decoders.projector import TokenProjector
from neuraldiffuser.decoders.voxel_encoder import VoxelEncoders, linear_encoder

LOW_LEVEL_TARGET = "vae_latent"


class HighLevelDecoder(nn.Module):
    """Voxel encoder and backbone; projector for contrast; diffusion prior for the embedding.

    The network works on targets standardised by ``mean`` and ``scale``, (tokens, width) each,
    which are 0 and 1 where targets are used as they are.
    """

    compiled_parts = ("voxel_encoder", "backbone", "projector", "prior")

    def __init__(
        self, voxel_counts: Mapping[str, int], token_shape: tuple[int, int], recipe: Recipe
    ) -> None:
        super().__init__()
        size = recipe.network.hidden_size
        self.voxel_encoder = VoxelEncoders(voxel_counts, lambda count: linear_encoder(count, size))
        self.backbone = BACKBONES[recipe.backbone](recipe.network, token_shape)
        self.projector = TokenProjector(token_shape[1])
        self.prior = PriorNetwork(recipe.prior, token_shape)
        self.register_buffer("mean", torch.zeros(token_shape))
        self.register_buffer("scale", torch.ones(token_shape))

    def forward(self, voxels: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Trials by subject, (n, voxels) each, to backbone tokens (n, tokens, width)."""
        return self.backbone(self.voxel_encoder(voxels))

    def project(self, brain: torch.Tensor) -> torch.Tensor:
        """Backbone tokens to the contrastive vector in the target's space, (n, tokens * width)."""
        return (self.projector(brain) * self.scale + self.mean).flatten(1)


def build_decoder(
    target: str, shape: tuple[int, ...], *, voxel_counts: Mapping[str, int], recipe: Recipe
) -> nn.Module:
    """The pipeline for ``target`` with random weights.

    Args:
        target: vae_latent has the low-level pipeline, every other target the high-level one.
        shape: of one embedding, (channels, height, width) or (tokens, width).
        voxel_counts: number of voxels by subject.
        recipe: sizes.
    """
    if target == LOW_LEVEL_TARGET:
        return LowLevelDecoder(
            voxel_counts, shape, network=recipe.network, low_level=recipe.low_level
        )
    return HighLevelDecoder(voxel_counts, shape, recipe)


def count_parameters(module: nn.Module) -> int:
    """Number of weights, those that the released mixer never uses included."""
    return sum(parameter.numel() for parameter in module.parameters())
