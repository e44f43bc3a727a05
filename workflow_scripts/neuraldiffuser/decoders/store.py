"""Decoders on disk: weights, and everything needed to build the network again."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import nn

from neuraldiffuser import storage
from neuraldiffuser.config.decoder import Recipe
from neuraldiffuser.decoders.architectures import build_decoder


@dataclass(frozen=True)
class Decoder:
    """A trained network and what it was trained for.

    Attributes:
        model: the network.
        target: name of the target.
        shape: of one embedding.
        voxel_counts: number of voxels by subject.
        validation_ids: ascending 73k ids of training images it never saw.
        recipe: of its training.
    """

    model: nn.Module
    target: str
    shape: tuple[int, ...]
    voxel_counts: dict[str, int]
    validation_ids: np.ndarray
    recipe: Recipe


def write_decoder(path: Path, decoder: Decoder) -> None:
    """Writes weights and description as safetensors."""
    description = {
        "target": decoder.target,
        "shape": list(decoder.shape),
        "voxel_counts": decoder.voxel_counts,
        "validation_ids": decoder.validation_ids.tolist(),
        "recipe": decoder.recipe.model_dump(mode="json"),
    }
    tensors = {name: tensor.cpu() for name, tensor in decoder.model.state_dict().items()}
    storage.write_tensors(path, tensors, description)


def read_decoder(path: Path, *, device: str = "cpu") -> Decoder:
    """Builds the network again, in evaluation mode; raises DataError if the file is damaged."""
    tensors, description = storage.read_tensors(path)
    recipe = Recipe.model_validate(description["recipe"])
    shape = tuple(description["shape"])
    model = build_decoder(
        description["target"], shape, voxel_counts=description["voxel_counts"], recipe=recipe
    )
    model.load_state_dict(tensors)
    return Decoder(
        model=model.to(device).eval(),
        target=description["target"],
        shape=shape,
        voxel_counts=description["voxel_counts"],
        validation_ids=np.array(description["validation_ids"], dtype=np.int64),
        recipe=recipe,
    )
