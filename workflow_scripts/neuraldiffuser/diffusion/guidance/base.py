"""What a guidance function is: from decoded images and per-image targets to one loss per image."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from neuraldiffuser.config.guidance import GuidanceSettings
from neuraldiffuser.config.targets import ClipImageSettings

Targets = Mapping[str, Tensor]


class Guidance:
    """What the sampler is guided by.

    The sampler takes the gradient of the sum of the losses, so a loss must depend on its own image
    only.

    Attributes:
        targets: what guides each image: embeddings by name, or ``voxels``, as measured.
    """

    targets: tuple[str, ...]

    def prepare(self, targets: Targets) -> Targets:
        """What of a batch's targets (n, ...) does not change from step to step, n rows each."""
        return targets

    def __call__(self, images: Tensor, targets: Targets) -> Tensor:
        """Images (n, 3, h, w) in [0, 1] and prepared targets (n, ...) to losses (n,)."""
        raise NotImplementedError


@dataclass(frozen=True)
class GuidanceSource:
    """What guidance functions are built from.

    Attributes:
        settings: of every function.
        clip_image: what the CLIP layers are.
        paths: files and folders by name: ``clip_image``, a folder in open_clip's layout;
            ``encoder``, encoders/{subject}.safetensors; ``accuracy``, encoders/{subject}.h5.
        decode: latents (n, c, h, w) to images (n, 3, h, w) in [0, 1], as the sampler decodes.
        seed: the experiment's.
        device: where networks run.
    """

    settings: GuidanceSettings
    clip_image: ClipImageSettings
    paths: Mapping[str, Path]
    decode: Callable[[Tensor], Tensor]
    seed: int = 0
    device: str = "cpu"


Builder = Callable[[GuidanceSource], Guidance]
