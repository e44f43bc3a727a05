"""Projectors for the contrastive losses: per token, and per position of a map."""

from torch import Tensor, nn


class TokenProjector(nn.Module):
    """Three linear layers per token.

    Source: HaoyyLi/NeuralDiffuser, src/models.py, BrainNetwork.projector.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
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

    def forward(self, tokens: Tensor) -> Tensor:
        """(n, tokens, width) to the same shape."""
        return self.layers(tokens)


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
