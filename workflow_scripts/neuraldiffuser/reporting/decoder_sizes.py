"""How large the decoders are: their weights, counted without reading them."""

from dataclasses import dataclass
from pathlib import Path

import torch

from neuraldiffuser import storage
from neuraldiffuser.config.decoder import Recipe
from neuraldiffuser.decoders.architectures import build_decoder, count_parameters


@dataclass(frozen=True)
class Size:
    """Weights of a network: all of them, as the paper counts, and those that training changes."""

    weights: int
    trained: int


def measure_size(path_to_decoder: Path) -> Size:
    """The size of the network that a decoder's file describes.

    Raises:
        DataError: the file is missing or damaged.
    """
    description = storage.read_metadata(path_to_decoder)
    with torch.device("meta"):
        model = build_decoder(
            description["target"],
            tuple(description["shape"]),
            voxel_counts=description["voxel_counts"],
            recipe=Recipe.model_validate(description["recipe"]),
        )
    trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    return Size(count_parameters(model), trained)
