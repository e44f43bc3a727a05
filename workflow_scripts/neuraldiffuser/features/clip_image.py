"""Activations inside a CLIP image tower: the guidance targets, and the function that guides."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import neuraldiffuser.torchvision_schemas  # noqa: F401  before open_clip

import torch
from torch import nn
from torch.nn import functional

from neuraldiffuser.errors import ConfigError, DataError
from neuraldiffuser.features import images as preprocessing
from neuraldiffuser.features.pretrained import UNREADABLE, first_sentence


class Node(NamedTuple):
    """What a layer's number means: the block it lies in, and what is read there."""

    block: Callable[[int], int]
    read: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


# ASSUME: the released code's hook names ("Linear-2k" for layers 2, 4, ..., 12) count two linear
# layers per block, so its layer 2k is the last MLP projection of block k, before the residual sum.
NODES = {
    "block_output": Node(lambda layer: layer, lambda output, _projection: output),
    "mlp_projection": Node(lambda layer: layer // 2, lambda _output, projection: projection),
}


class ClipLayers(nn.Module):
    """Images to the activations of named layers, computed once and no further than needed.

    Args:
        visual: open_clip's image tower (a VisionTransformer).
        node: a key of ``NODES``.
        normalisation: a key of ``images.MEANS_AND_DEVIATIONS``.
        antialias: whether images are filtered before they are shrunk to the tower's size.
        layers: ascending layer numbers.

    Raises:
        ConfigError: the tower has no such layer.
    """

    def __init__(
        self,
        visual: nn.Module,
        *,
        node: str,
        normalisation: str,
        antialias: bool,
        layers: Sequence[int],
    ) -> None:
        super().__init__()
        self.read = NODES[node].read
        self.layer_of_block = {NODES[node].block(layer): layer for layer in layers}
        _require_blocks(layers, node=node, depth=len(visual.transformer.resblocks))
        self.size = visual.image_size[0]
        self.normalisation = normalisation
        self.antialias = antialias
        self.visual = visual
        self.shape = tuple(visual.positional_embedding.shape)

    def forward(self, images: torch.Tensor) -> dict[int, torch.Tensor]:
        """(n, 3, h, w) images in [0, 1] to {layer: (n, tokens, width)}, class token first."""
        resized = preprocessing.resize(images, self.size, antialias=self.antialias)
        normalised = preprocessing.normalise(resized, self.normalisation)
        tokens = self.visual._embeds(normalised.to(self.visual.conv1.weight.dtype))
        features = {}
        for number in range(1, max(self.layer_of_block) + 1):
            block = self.visual.transformer.resblocks[number - 1]
            tokens, projection = run_block(block, tokens)
            if number in self.layer_of_block:
                features[self.layer_of_block[number]] = self.read(tokens, projection)
        return features


def run_block(block: nn.Module, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A residual attention block: its output, and its MLP's projection before the residual sum."""
    attended = tokens + block.ls_1(attend(block.attn, block.ln_1(tokens)))
    projection = block.mlp(block.ln_2(attended))
    return attended + block.ls_2(projection), projection


def attend(attention: nn.MultiheadAttention, tokens: torch.Tensor) -> torch.Tensor:
    """Self-attention (n, tokens, width) with the module's weights.

    The module itself computes with other kernels where no gradient is asked for; extraction and
    guidance shall share every one, and all of them the fused attention.
    """
    joint = functional.linear(tokens, attention.in_proj_weight, attention.in_proj_bias)
    query, key, value = (
        part.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)  # (n, heads, tokens, width)
        for part in joint.chunk(3, dim=-1)
    )
    mixed = functional.scaled_dot_product_attention(query, key, value)
    return attention.out_proj(mixed.transpose(1, 2).flatten(2))


def _require_blocks(layers: Sequence[int], *, node: str, depth: int) -> None:
    blocks = [NODES[node].block(layer) for layer in layers]
    if not blocks or len(set(blocks)) < len(blocks) or not 1 <= min(blocks) <= max(blocks) <= depth:
        raise ConfigError(
            f"targets.clip_image.layers {list(layers)} with node {node} would read blocks "
            f"{blocks}, but the tower has blocks 1 to {depth}; name layers in different blocks."
        )


def load_clip_image(
    path: Path,
    *,
    node: str,
    normalisation: str,
    antialias: bool,
    layers: Sequence[int],
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> ClipLayers:
    """Loads a frozen image tower from a folder in open_clip's layout.

    Args:
        path: folder with open_clip_config.json and safetensors.
        node: a key of ``NODES``.
        normalisation: a key of ``images.MEANS_AND_DEVIATIONS``.
        antialias: whether images are filtered before they are shrunk.
        layers: ascending layer numbers.
        device: torch device.
        dtype: of the tower's weights and activations.

    Raises:
        DataError: the folder or a file in it is missing or unreadable.
        ConfigError: the tower has no such layer.
    """
    network = ClipLayers(
        load_visual(path),
        node=node,
        normalisation=normalisation,
        antialias=antialias,
        layers=layers,
    )
    return network.to(device=device, dtype=dtype).eval().requires_grad_(False)


def load_visual(path: Path) -> nn.Module:
    """The image tower of an open_clip model in a local folder.

    Raises:
        DataError: the folder or a file in it is missing or unreadable.
    """
    import open_clip

    if not list(Path(path).glob("*.safetensors")):
        raise DataError(
            f"{path} holds no safetensors of an open_clip model; put open_clip_config.json and "
            "open_clip_model.safetensors there."
        )
    try:
        model = open_clip.create_model(f"local-dir:{path}", weights_only=True)
    except UNREADABLE as error:
        raise DataError(
            f"{path} is no readable open_clip model ({first_sentence(error)}); fetch or train it"
            " again."
        ) from error
    return model.visual
