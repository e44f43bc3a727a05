"""Brain-encoding guidance (Table 4): distance of an encoder's response to the measured one.

The paper names the network (GNet), its scale (800) and its strength (1.0), but neither the loss,
nor which voxels enter it, nor how they are weighted, and that code is not released: all three are
settings here.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from neuraldiffuser import storage
from neuraldiffuser.config.guidance import VOXELS, EncoderSettings
from neuraldiffuser.diffusion.guidance.base import Guidance, GuidanceSource, Targets
from neuraldiffuser.encoding.prediction import load_encoder
from neuraldiffuser.errors import ConfigError, DataError
from neuraldiffuser.nsd import rois

# Keeps the choice of voxels apart from other choices seeded by the same number.
STREAM = 0x564F5845

# --- which voxels guide -------------------------------------------------------------------


def choose_guiding_voxels(
    labels: np.ndarray, settings: EncoderSettings, *, seed: int
) -> np.ndarray:
    """Which of a subject's voxels guide; no loss reads the others.

    The share is taken within each visual area, so that every area keeps voxels of both kinds.

    Args:
        labels: (voxels,) prf-visualrois label of each nsdgeneral voxel.
        settings: regions and share.
        seed: of the choice.

    Returns:
        (voxels,) bool.
    """
    masks = rois.regions(labels)
    candidates = np.flatnonzero(np.any([masks[name] for name in settings.regions], axis=0))
    shuffled = np.random.default_rng((STREAM, int(seed))).permutation(candidates)
    by_area = shuffled[np.argsort(labels[shuffled], kind="stable")]
    # Of k voxels the first floor(k share) are taken, for every k: spread evenly over the areas.
    taken = np.diff(np.floor(np.arange(len(by_area) + 1) * settings.share)) > 0
    guiding = np.zeros(len(labels), bool)
    guiding[by_area[taken]] = True
    return guiding


def weigh_equally(correlation: np.ndarray) -> np.ndarray:
    """Every voxel alike."""
    return np.ones(len(correlation))


def weigh_by_accuracy(correlation: np.ndarray) -> np.ndarray:
    """By the share of variance that the encoder explains; none where it explains nothing."""
    return np.clip(correlation, 0, None).astype(np.float64) ** 2


WEIGHTINGS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "equal": weigh_equally,
    "accuracy": weigh_by_accuracy,
}

# --- losses over voxels -------------------------------------------------------------------


def mean_squares(predicted: Tensor, measured: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean over voxels of squared differences: (n, v), (n, v), (v,) to (n,)."""
    return ((predicted - measured).square() * weights).sum(dim=1)


def one_minus_correlation(predicted: Tensor, measured: Tensor, weights: Tensor) -> Tensor:
    """1 - r, with r the weighted Pearson correlation over voxels; shapes as above."""
    deviations = (
        (values - (values * weights).sum(dim=1, keepdim=True)) * weights.sqrt()
        for values in (predicted, measured)
    )
    return 1 - cosine_similarity(*deviations, dim=1)


ENCODER_LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "mean_squares": mean_squares,
    "correlation": one_minus_correlation,
}

# --- the guidance function ----------------------------------------------------------------


class EncoderGuidance(Guidance):
    """A loss over voxels, between the encoder's response to the image and the measured one."""

    targets = (VOXELS,)

    def __init__(
        self,
        encoder: Callable[[Tensor], Tensor],
        *,
        guiding: np.ndarray,
        weights: np.ndarray,
        loss: str,
        device: str = "cpu",
    ) -> None:
        """Takes images-to-voxels, (voxels,) bool of those that guide, weights, and a loss' name."""
        self.encoder = encoder
        self.voxels = len(guiding)
        self.guiding = torch.from_numpy(np.flatnonzero(guiding)).to(device)
        self.weights = torch.from_numpy(weights[guiding] / weights[guiding].sum()).to(device)
        self.loss = ENCODER_LOSSES[loss]

    def prepare(self, targets: Targets) -> Targets:
        """The measured voxels that guide; raises DataError if the encoder answers for others."""
        measured = targets[VOXELS]
        if measured.shape[1:] != (self.voxels,):
            raise DataError(
                f"{measured.shape[1]} voxels were measured, but the encoder answers for"
                f" {self.voxels}; train the encoder on this subject's voxels."
            )
        return {VOXELS: measured[:, self.guiding]}

    def __call__(self, images: Tensor, targets: Targets) -> Tensor:
        """One loss per image."""
        predicted = self.encoder(images)[:, self.guiding]
        return self.loss(predicted, targets[VOXELS].to(predicted), self.weights.to(predicted))


def build_encoder(source: GuidanceSource) -> Guidance:
    """Loads the subject's encoder, chooses the voxels that guide, and weighs them.

    Weights come from training images: what the encoder makes of test images guides none of them.

    Raises:
        ConfigError: no voxel guides.
    """
    settings = source.settings.encoder
    accuracy = source.paths["accuracy"]
    guiding = choose_guiding_voxels(storage.read_array(accuracy, "roi"), settings, seed=source.seed)
    weights = WEIGHTINGS[settings.weighting](storage.read_array(accuracy, "held_out_correlation"))
    if not weights[guiding].any():
        raise ConfigError(
            f"reconstruction.guidance.encoder leaves no voxel that guides: regions"
            f" {', '.join(settings.regions)}, share {settings.share}, weighting"
            f" {settings.weighting}; choose more regions, a larger share or equal weights."
        )
    return EncoderGuidance(
        load_encoder(source.paths["encoder"], device=source.device).network,
        guiding=guiding,
        weights=weights,
        loss=settings.loss,
        device=source.device,
    )
