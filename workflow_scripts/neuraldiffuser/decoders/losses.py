"""Losses of the decoders: MixCo, soft CLIP, soft contrast of maps, L1 of the latent.

    p  predictions, c  targets: (N, d), both L2-normalised by the caller
    tau  temperature            W  (N, N) MixCo's target weights

Every contrastive loss here is the mean of its two directions; Equation 1 of the paper is their sum
and Equation 2 shows one of them. Source: HaoyyLi/NeuralDiffuser, src/utils.py.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional


@dataclass(frozen=True)
class Mixture:
    """Which trial of the same subject is mixed into each trial, and how much of itself it keeps.

    Attributes:
        partner: (subjects, trials per subject) int64, position within the subject's own trials.
        kept: the same shape, float32; 1 where a trial is not mixed.
    """

    partner: torch.Tensor
    kept: torch.Tensor


def draw_mixture(
    generator: np.random.Generator, *, shape: tuple[int, int], beta: float, probability: float
) -> Mixture:
    """Draws partners, Beta(beta, beta) weights and who is mixed at all."""
    partner = generator.permuted(np.tile(np.arange(shape[1]), (shape[0], 1)), axis=1)
    kept = generator.beta(beta, beta, size=shape)
    kept = np.where(generator.random(shape) <= probability, kept, 1.0)
    return Mixture(torch.from_numpy(partner), torch.from_numpy(kept.astype(np.float32)))


def mix_voxels(voxels: Mapping[str, torch.Tensor], mixture: Mixture) -> dict[str, torch.Tensor]:
    """Mixes each subject's (n, voxels) trials with their partners; targets stay unmixed."""
    return {
        subject: torch.lerp(trials[partner], trials, kept[:, None])
        for (subject, trials), partner, kept in zip(
            voxels.items(), mixture.partner, mixture.kept, strict=True
        )
    }


def global_weights(mixture: Mixture) -> torch.Tensor:
    """W with each partner in its own column of the concatenated batch (corrected)."""
    subjects, count = mixture.partner.shape
    offset = torch.arange(subjects, device=mixture.partner.device)[:, None] * count
    partner, kept = (mixture.partner + offset).flatten(), mixture.kept.flatten()
    rows = torch.arange(len(kept), device=kept.device)
    return torch.diag(kept).index_put((rows, partner), 1 - kept, accumulate=True)


def per_subject_unoffset_weights(mixture: Mixture) -> torch.Tensor:
    """W with every partner among the columns of the first subject, as released.

    Partners are numbered within each subject and concatenated without offsets, and a trial that is
    its own partner loses its diagonal entry: not mixed, its row becomes all zero.
    """
    partner, kept = mixture.partner.flatten(), mixture.kept.flatten()
    rows = torch.arange(len(kept), device=kept.device)
    return torch.diag(kept).index_put((rows, partner), 1 - kept)


PERMUTATIONS: dict[str, Callable[[Mixture], torch.Tensor]] = {
    "global": global_weights,
    "per_subject_unoffset": per_subject_unoffset_weights,
}


def unit_vectors(x: torch.Tensor) -> torch.Tensor:
    """Flattens everything but the first axis and divides by the L2 norm: (N, d) float32."""
    return functional.normalize(x.flatten(1).float(), dim=1)


def similarity(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Dot products of all rows of ``a`` and ``b``, (N, M), never in half precision.

    A cosine near 1 is known to 0.004 in bfloat16, as much as the temperature that divides it.
    """
    with torch.autocast(a.device.type, enabled=False):
        return a @ b.T


def mixco_loss(
    p: torch.Tensor, c: torch.Tensor, weights: torch.Tensor, temperature: float
) -> torch.Tensor:
    """Cross-entropy against MixCo's weights in both directions (half of Equation 1); a scalar."""
    logits = similarity(p, c) / temperature
    return (_cross_entropy(logits, weights) + _cross_entropy(logits.T, weights.T)) / 2


def soft_clip_loss(p: torch.Tensor, c: torch.Tensor, temperature: float) -> torch.Tensor:
    """Cross-entropy against the targets' own similarities (Equation 2, both directions)."""
    logits, soft = similarity(p, c) / temperature, (similarity(c, c) / temperature).softmax(dim=1)
    return (_cross_entropy(logits, soft) + _cross_entropy(logits.T, soft)) / 2


def soft_contrastive_loss(
    student: torch.Tensor, teacher: torch.Tensor, augmented: torch.Tensor, temperature: float
) -> torch.Tensor:
    """Cross-entropy of map positions against a teacher's clean and augmented maps.

    Args:
        student: (N, d) unit vectors, one per position of every image of the batch.
        teacher: (N, d) unit vectors of the clean images.
        augmented: (N, d) unit vectors of the augmented images.
        temperature: of all similarities.

    Returns:
        Scalar, the mean of both directions.
    """
    reference = similarity(teacher, augmented) / temperature
    logits = similarity(student, augmented) / temperature
    forward = _cross_entropy(logits, reference.softmax(dim=1))
    return (forward + _cross_entropy(logits.T, reference.T.softmax(dim=1))) / 2


def latent_l1_loss(predicted: torch.Tensor, target: torch.Tensor, divisor: float) -> torch.Tensor:
    """Equation 5, as a mean over samples and dimensions, over ``divisor``."""
    return functional.l1_loss(predicted, target) / divisor


def _cross_entropy(logits: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Mean over rows of minus the weighted log-softmax."""
    return -(logits.log_softmax(dim=1) * weights).sum(dim=1).mean()


def soft_temperature(progress: float, first: float, last: float) -> float:
    """Half a cosine from ``first`` at progress 0 to ``last`` at progress 1."""
    return last + (first - last) / 2 * (1 + math.cos(math.pi * progress))
