"""Stored encoding models, and the responses they predict."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from neuraldiffuser import storage
from neuraldiffuser.config.encoding import GnetSettings
from neuraldiffuser.encoding.gnet import Gnet
from neuraldiffuser.errors import DataError
from neuraldiffuser.features import images as preprocessing

BATCH_SIZE = 32


def save_encoder(
    path: Path | str, encoder: Gnet, *, settings: GnetSettings, metadata: dict[str, Any]
) -> None:
    """Writes an encoder's weights with the sizes that ``load_encoder`` needs."""
    described = metadata | {
        "network": settings.model_dump(mode="json"),
        "voxels": len(encoder.readout.bias),
    }
    storage.write_tensors(path, encoder.state_dict(), described)


def load_encoder(path: Path | str, *, device: str = "cpu") -> Gnet:
    """Reads a frozen encoder: (n, 3, h, w) images in [0, 1] to (n, voxels), differentiable.

    Raises:
        DataError: the file is missing, truncated or holds no encoder.
    """
    tensors, metadata = storage.read_tensors(path)
    if not {"network", "voxels"} <= set(metadata):
        raise DataError(f"{path} holds no encoding model; run train_encoder again.")
    encoder = Gnet(GnetSettings(**metadata["network"]), voxels=metadata["voxels"])
    encoder.load_state_dict(tensors)
    return encoder.to(device).eval().requires_grad_(False)


@torch.no_grad()
def predict(encoder: Gnet, images: np.ndarray) -> np.ndarray:
    """Responses to stimuli.

    Args:
        encoder: in evaluation mode.
        images: (n, h, w, 3) uint8; resized by PIL's Lanczos filter, as GNet was trained.

    Returns:
        (n, voxels) float32.
    """
    device = encoder.input_mean.device
    parts = []
    for start in range(0, len(images), BATCH_SIZE):
        batch = preprocessing.resize_with_lanczos(
            images[start : start + BATCH_SIZE], encoder.image_size
        )
        parts.append(encoder(preprocessing.to_unit_range(batch).to(device)).cpu().numpy())
    return np.concatenate(parts)
