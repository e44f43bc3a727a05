"""What functions share that compare an image with the one that its latent target decodes to."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from neuraldiffuser.config.guidance import LATENT
from neuraldiffuser.diffusion.guidance.base import Guidance, Targets

REMEMBERED_IMAGES = 32  # 100 MB of 512 pixels


def decode_each_once(decode: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The same map from latents to images, of one latent at a time, which remembers the last ones.

    The repeats of an image and the functions of a sum share its latent. Decoded alone, each image
    has the same bits whatever else is in its batch.
    """

    @lru_cache(maxsize=REMEMBERED_IMAGES)
    def decode_one(latent: bytes, shape: tuple[int, ...], dtype: str, device: str) -> Tensor:
        values = np.frombuffer(latent, dtype).reshape(1, *shape)
        return decode(torch.from_numpy(values.copy()).to(device))

    def decode_all(latents: Tensor) -> Tensor:
        rows = latents.cpu().numpy()
        about = (rows.shape[1:], rows.dtype.str, str(latents.device))
        return torch.cat([decode_one(row.tobytes(), *about) for row in rows])

    return decode_all


class DecodedImageGuidance(Guidance):
    """Distance between what is seen in an image and in the one behind its decoded latent.

    What is seen needs no brain decoder of its own: the latent's already tells what lies where.
    """

    targets = (LATENT,)

    def __init__(self, decode: Callable[[Tensor], Tensor]) -> None:
        """Takes the map from latents (n, c, h, w) to images (n, 3, H, W) in [0, 1]."""
        self.decode = decode

    def prepare(self, targets: Targets) -> Targets:
        """What is seen in the images that the latents decode to."""
        return {LATENT: self.describe(self.decode(targets[LATENT]))}

    def __call__(self, images: Tensor, targets: Targets) -> Tensor:
        """Images (n, 3, H, W) and prepared targets to losses (n,)."""
        return self.compare(self.describe(images), targets[LATENT].to(images))

    def describe(self, images: Tensor) -> Tensor:
        """What is compared: images (n, 3, H, W) in [0, 1] to (n, ...)."""
        raise NotImplementedError

    def compare(self, seen: Tensor, wanted: Tensor) -> Tensor:
        """Two such descriptions (n, ...) to losses (n,)."""
        raise NotImplementedError
