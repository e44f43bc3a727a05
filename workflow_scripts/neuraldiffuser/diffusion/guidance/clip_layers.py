"""Primary visual feature guidance (Section 4.3): distance to decoded CLIP image layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from neuraldiffuser.diffusion.guidance.base import Guidance, GuidanceSource, Targets
from neuraldiffuser.errors import ConfigError, DataError
from neuraldiffuser.features.clip_image import load_clip_image


def sum_squares(features: Targets, targets: Targets, _weights: Sequence[float]) -> Tensor:
    """Eq. 14: sum over layers, tokens and dimensions of squared differences, (n,)."""
    return sum(squares(features[name] - targets[name]).sum(dim=1) for name in targets)


def weighted_mean(features: Targets, targets: Targets, weights: Sequence[float]) -> Tensor:
    """The authors' code: mean squared differences of layers, weighted per image, (n,).

    w_l = weights_l (1 / |g_l|) / sum_k (1 / |g_k|), with |g| the norm of the target (src/recon.py
    and guided_diffusion.py of HaoyyLi/NeuralDiffuser).
    """
    inverse_norms = {name: squares(target).sum(dim=1).rsqrt() for name, target in targets.items()}
    total = sum(inverse_norms.values())
    return sum(
        weight * inverse_norms[name] / total * squares(features[name] - targets[name]).mean(dim=1)
        for name, weight in zip(targets, weights, strict=True)
    )


def squares(values: Tensor) -> Tensor:
    """Squared elements, (n, everything else)."""
    return values.flatten(1).square()


GUIDANCE_LOSSES: dict[str, Callable[[Targets, Targets, Sequence[float]], Tensor]] = {
    "sum_squares": sum_squares,
    "weighted_mean": weighted_mean,
}


class ClipLayersGuidance(Guidance):
    """A loss over layers of a CLIP image tower, between the image's and the decoded ones."""

    def __init__(self, network, *, layers: Sequence[int], loss: str, weights: Sequence[float]):
        """Takes images-to-{layer: features}, its layers, a key of GUIDANCE_LOSSES, and weights.

        Raises:
            ConfigError: there is not one weight per layer.
        """
        if len(weights) != len(layers):
            raise ConfigError(
                f"reconstruction.guidance.clip_layers.layer_weights has {len(weights)} weights, but"
                f" targets.clip_image.layers has {len(layers)} layers; give one weight per layer."
            )
        self.network = network
        self.layers = tuple(layers)
        self.targets = tuple(f"clip_image_{layer:02d}" for layer in layers)
        self.loss = GUIDANCE_LOSSES[loss]
        self.weights = tuple(weights)

    def prepare(self, targets: Targets) -> Targets:
        """The targets; raises DataError if one is zero throughout or not finite."""
        for name in self.targets:
            norms = squares(targets[name]).sum(dim=1)
            usable = int((norms.isfinite() & (norms > 0)).sum())
            if usable < len(norms):
                raise DataError(
                    f"Embeddings of {name} are zero throughout or not finite for"
                    f" {len(norms) - usable} of {len(norms)} samples; decode them anew."
                )
        return targets

    def __call__(self, images: Tensor, targets: Targets) -> Tensor:
        """One loss per image; raises DataError where a target does not fit the network."""
        by_layer = self.network(images)
        features = {
            name: by_layer[layer].to(images.dtype)
            for name, layer in zip(self.targets, self.layers, strict=True)
        }
        wanted = {name: targets[name].to(images) for name in self.targets}
        refuse_misfits(features, wanted)
        return self.loss(features, wanted, self.weights)


def refuse_misfits(features: Targets, targets: Targets) -> None:
    """Raises DataError if a target's shape is not that of the network's layer."""
    for name, target in targets.items():
        if target.shape != features[name].shape:
            raise DataError(
                f"Embeddings of {name} have shape {tuple(target.shape[1:])}, but the CLIP image"
                f" tower gives {tuple(features[name].shape[1:])}; decode them for the model that"
                " models.clip_image names."
            )


def build_clip_layers(source: GuidanceSource) -> Guidance:
    """Loads the CLIP image tower that the targets were extracted with."""
    settings = source.clip_image
    network = load_clip_image(
        source.paths["clip_image"],
        node=settings.node,
        normalisation=settings.normalisation,
        antialias=settings.antialias,
        layers=settings.layers,
        device=source.device,
        # A hundredth of a decode's arithmetic: half precision would save nothing here.
        dtype=torch.float32,
    )
    return ClipLayersGuidance(
        network,
        layers=settings.layers,
        loss=source.settings.clip_layers.loss,
        weights=source.settings.clip_layers.layer_weights,
    )
