"""Backbones: from the shared space to the tokens of a target (registry ``BACKBONES``)."""

from collections.abc import Callable

import torch
from torch import nn

from neuraldiffuser.config.decoder import Network
from neuraldiffuser.decoders.parallel import Dropout


class ReleasedMixer(nn.Module):
    """The "MLP-Mixer" as released; its mixing blocks have no effect on a single token.

    Every brain is one token. Layer normalisation over a token axis of length one returns its bias
    whatever enters it, and the running residual of that axis still carries the block's *initial*
    input, so the token-mixing blocks overwrite what the channel-mixing blocks computed: their
    4 * 2 * hidden_size^2 weights never reach the output, which is affine in the voxels. They stand
    here for the published parameter counts and weights; they are neither computed nor trained.
    Kept to reproduce the published numbers; ``ResidualMLP`` is the working backbone.

    Source: HaoyyLi/NeuralDiffuser, src/models.py, BrainNetwork (as MedARC-AI/MindEyeV2).
    """

    def __init__(self, network: Network, token_shape: tuple[int, int]) -> None:
        super().__init__()
        tokens, width = token_shape
        self.token_shape = token_shape
        self.channel_blocks = nn.ModuleList(
            [mixing_block(network.hidden_size, network.dropout) for _ in range(network.blocks)]
        ).requires_grad_(False)
        self.token_blocks = nn.ModuleList(
            [mixing_block(1, network.dropout) for _ in range(network.blocks)]
        )
        self.output = nn.Linear(network.hidden_size, tokens * width)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """(n, hidden) to (n, tokens, width)."""
        tokens = x = hidden.unsqueeze(2)  # (n, hidden, 1): normalised over its only token
        for mix_tokens in self.token_blocks:
            x = x + mix_tokens(tokens)
        return self.output(x.flatten(1)).unflatten(1, self.token_shape)


def mixing_block(width: int, dropout: float) -> nn.Sequential:
    """Layer normalisation and a two-layer perceptron over the last axis."""
    return nn.Sequential(
        nn.LayerNorm(width),
        nn.Linear(width, width),
        nn.GELU(),
        Dropout(dropout),
        nn.Linear(width, width),
    )


class ResidualMLP(nn.Module):
    """Residual perceptron in the manner of MindEye's first version: the backbone that works.

    Source of the layout: MedARC-AI/fMRI-reconstruction-NSD, src/models.py, BrainNetwork.
    """

    def __init__(self, network: Network, token_shape: tuple[int, int]) -> None:
        super().__init__()
        tokens, width = token_shape
        size = network.hidden_size
        self.token_shape = token_shape
        self.input = nn.Sequential(nn.LayerNorm(size), nn.GELU(), Dropout(network.input_dropout))
        self.blocks = nn.ModuleList(
            [
                nn.Sequential(
                    nn.Linear(size, size),
                    nn.LayerNorm(size),
                    nn.GELU(),
                    Dropout(network.dropout),
                )
                for _ in range(network.blocks)
            ]
        )
        self.output = nn.Linear(size, tokens * width)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """(n, hidden) to (n, tokens, width)."""
        x = self.input(hidden)
        for block in self.blocks:
            x = block(x) + x
        return self.output(x).unflatten(1, self.token_shape)


BACKBONES: dict[str, Callable[[Network, tuple[int, int]], nn.Module]] = {
    "released_mixer": ReleasedMixer,
    "residual_mlp": ResidualMLP,
}
