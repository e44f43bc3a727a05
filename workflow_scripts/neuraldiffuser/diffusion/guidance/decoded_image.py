"""What functions share that compare an image with the one that its latent target decodes to."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from neuraldiffuser.config.guidance import LATENT
from neuraldiffuser.diffusion.guidance.base import Guidance, Targets


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
