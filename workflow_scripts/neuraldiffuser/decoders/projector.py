"""Projectors for the contrastive losses: per token, and per position of a map."""

from torch import nn


def token_projector(width: int) -> nn.Sequential:
    """Three linear layers per token, (n, tokens, width) to the same shape.

    Source: HaoyyLi/NeuralDiffuser, src/models.py, BrainNetwork.projector.
    """
    return nn.Sequential(
        nn.LayerNorm(width),
        nn.GELU(),
        nn.Linear(width, width),
        nn.LayerNorm(width),
        nn.GELU(),
        nn.Linear(width, width),
        nn.LayerNorm(width),
        nn.GELU(),
        nn.Linear(width, width),
    )


def maps_projector(channels: int, width: int, outputs: int) -> nn.Sequential:
    """Three 1x1 convolutions, (n, channels, h, w) to (n, outputs, h, w).

    Source: HaoyyLi/NeuralDiffuser, src/models.py, Voxel2StableDiffusionModel.maps_projector.
    """
    return nn.Sequential(
        nn.Conv2d(channels, width, 1, bias=False),
        nn.GroupNorm(1, width),
        nn.ReLU(),
        nn.Conv2d(width, width, 1, bias=False),
        nn.GroupNorm(1, width),
        nn.ReLU(),
        nn.Conv2d(width, outputs, 1),
    )
