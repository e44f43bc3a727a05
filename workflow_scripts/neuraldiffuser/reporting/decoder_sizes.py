"""How large the decoders are: their trainable weights, counted without reading them."""

from pathlib import Path

import torch

from neuraldiffuser import storage
from neuraldiffuser.config.decoder import Recipe
from neuraldiffuser.decoders.architectures import build_decoder, count_parameters


def count_weights(path_to_decoder: Path) -> int:
    """Trainable weights of the network that a decoder's file describes.

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
    return count_parameters(model)
