"""Stored encoding models, and the responses they predict."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from neuraldiffuser import storage
from neuraldiffuser.config.encoding import GnetSettings
from neuraldiffuser.encoding.gnet import Gnet
from neuraldiffuser.errors import DataError
from neuraldiffuser.features import images as preprocessing
from neuraldiffuser.nsd.selection import Selection

BATCH_SIZE = 32
INDEX = "index"  # the tensor that says which voxels the others are of
NAMED = ("subject", "volume_shape", "source")


@dataclass(frozen=True)
class StoredEncoder:
    """A subject's encoding model and which voxels it answers for, in the order of its answers.

    Attributes:
        network: (n, 3, h, w) images in [0, 1] to (n, voxels), differentiable.
        subject: such as "subj01".
        index: (voxels,) int64, flat C-order index into the volume.
        volume_shape: of the volume that ``index`` refers to.
        source: where the weights come from, a value of ``encoding.source``.
    """

    network: Gnet
    subject: str
    index: np.ndarray
    volume_shape: tuple[int, ...]
    source: str


def save_encoder(
    path: Path | str, encoder: StoredEncoder, *, settings: GnetSettings, metadata: dict[str, Any]
) -> None:
    """Writes an encoder's weights with the sizes and voxels that ``load_encoder`` needs."""
    described = metadata | {
        "network": settings.model_dump(mode="json"),
        "subject": encoder.subject,
        "volume_shape": list(encoder.volume_shape),
        "source": encoder.source,
    }
    index = {INDEX: torch.from_numpy(np.int64(encoder.index))}
    storage.write_tensors(path, encoder.network.state_dict() | index, described)


def load_encoder(path: Path | str, *, device: str = "cpu") -> StoredEncoder:
    """Reads a frozen encoder.

    Raises:
        DataError: the file is missing, truncated or holds no encoder.
    """
    tensors, metadata = storage.read_tensors(path)
    if INDEX not in tensors or not {"network", *NAMED} <= set(metadata):
        raise DataError(f"{path} holds no encoding model; run train_encoder again.")
    index = tensors.pop(INDEX).numpy()
    network = Gnet(GnetSettings(**metadata["network"]), voxels=len(index))
    network.load_state_dict(tensors)
    return StoredEncoder(
        network=network.to(device).eval().requires_grad_(False),
        subject=metadata["subject"],
        index=index,
        volume_shape=tuple(metadata["volume_shape"]),
        source=metadata["source"],
    )


def match_voxels(encoder: StoredEncoder, selection: Selection, *, subject: str) -> None:
    """Refuses measured voxels that are not, one by one, those that the encoder answers for.

    Raises:
        DataError: they are another subject's, another volume's, others, or in another order.
    """
    same = (
        encoder.subject == subject
        and encoder.volume_shape == tuple(selection.volume_shape)
        and np.array_equal(encoder.index, selection.index)
    )
    if not same:
        raise DataError(
            f"The encoder answers for {_describe(encoder.subject, encoder)}, but the voxels "
            f"measured are {_describe(subject, selection)}, with "
            f"{len(np.intersect1d(encoder.index, selection.index))} in common, or in another "
            f"order; delete encoders/{subject}.safetensors and run the workflow again."
        )


def _describe(subject: str, voxels: StoredEncoder | Selection) -> str:
    shape = " x ".join(map(str, voxels.volume_shape))
    return f"{len(voxels.index)} of {subject} in a volume of {shape}"


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
