"""Preprocessing of images, shared by extraction, guidance and evaluation.

Everything on tensors is differentiable, so that what guides is exactly what was decoded.
"""

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

MEANS_AND_DEVIATIONS = {
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}


def place(images: np.ndarray, device: str) -> torch.Tensor:
    """(n, h, w, 3) uint8 as a tensor on the device, a quarter of the bytes of float32.

    The copy to a GPU starts from pinned memory, so it overlaps with what the GPU computes.
    """
    tensor = torch.from_numpy(images)
    return tensor if device == "cpu" else tensor.pin_memory().to(device, non_blocking=True)


def to_unit_range(images: np.ndarray | torch.Tensor) -> torch.Tensor:
    """(n, h, w, 3) uint8 to (n, 3, h, w) float32 in [0, 1], on the device where the images are."""
    planes = torch.as_tensor(images).permute(0, 3, 1, 2)
    return planes.to(torch.float32, memory_format=torch.contiguous_format).div_(255)


def resize(
    images: torch.Tensor, size: int, *, antialias: bool, interpolation: str = "bilinear"
) -> torch.Tensor:
    """(n, c, h, w) to (n, c, size, size), as torchvision's Resize does on tensors.

    Args:
        images: floating-point images.
        size: pixels a side of the result.
        antialias: whether shrinking filters before it samples.
        interpolation: "bilinear" or "bicubic".
    """
    if tuple(images.shape[-2:]) == (size, size):
        return images
    return functional.interpolate(
        images, size=(size, size), mode=interpolation, align_corners=False, antialias=antialias
    )


def normalise(images: torch.Tensor, normalisation: str) -> torch.Tensor:
    """(n, 3, h, w) in [0, 1] minus the channels' means, over their deviations.

    Args:
        images: RGB images.
        normalisation: a key of ``MEANS_AND_DEVIATIONS``.
    """
    mean, deviation = (
        torch.tensor(values, dtype=images.dtype, device=images.device)[:, None, None]
        for values in MEANS_AND_DEVIATIONS[normalisation]
    )
    return (images - mean) / deviation


def resize_with_lanczos(images: np.ndarray, size: int) -> np.ndarray:
    """(n, h, w, 3) uint8 to (n, size, size, 3) uint8 with PIL's Lanczos filter."""
    if images.shape[1:3] == (size, size):
        return images
    resized = [
        Image.fromarray(image).resize((size, size), Image.Resampling.LANCZOS) for image in images
    ]
    return np.stack([np.asarray(image) for image in resized])
