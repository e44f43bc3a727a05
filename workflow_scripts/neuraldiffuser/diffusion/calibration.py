"""The guidance scale, chosen on held-out training images by the strength of its first step.

A scale means nothing under another guidance function, node, loss or model. What carries over is
the ratio of guidance to denoiser: for one image, with e the noise that the denoiser removes in the
first guided step (classifier-free and self-attention guidance included),

    r(kappa) = |sqrt(1 - abar) kappa grad L| / |e|        (Euclidean norms over the latent).

r is proportional to kappa, so kappa = wanted ratio / median over images of r(1).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch

from neuraldiffuser.diffusion.embeddings import Embeddings
from neuraldiffuser.diffusion.memory import WHOLE_BATCH, BatchPlan, Parts
from neuraldiffuser.diffusion.reconstruct import (
    Batch,
    Engine,
    Guided,
    Tally,
    bind_targets,
    place_batch,
    run_batches,
)
from neuraldiffuser.diffusion.sampler import guided_noise, sample
from neuraldiffuser.errors import ConfigError, DataError

# Keeps the choice of images apart from other stages seeded by the same number.
STREAM = 0x43414C49


@dataclass(frozen=True)
class Calibration:
    """A guidance scale and the ratios of guidance to denoiser that it has on held-out images."""

    scale: float
    ratio: float  # median
    ratio_low: float  # lower quartile
    ratio_high: float  # upper quartile
    images: int

    def as_dict(self) -> dict[str, float]:
        """Plain values for a file."""
        return asdict(self)


def choose_images(ids: np.ndarray, *, count: int, seed: int) -> np.ndarray:
    """A seeded choice of at most `count` held-out images, ascending.

    Raises:
        DataError: no image was held out.
    """
    if not len(ids):
        raise DataError(
            "No held-out training images to calibrate the guidance scale on; set"
            " decoder.validation_images above 0 or give the variant a scale."
        )
    generator = np.random.default_rng((STREAM, int(seed)))
    return np.sort(generator.choice(ids, size=min(count, len(ids)), replace=False))


def calibrate(
    embeddings: Embeddings,
    engine: Engine,
    guided: Guided,
    *,
    ratio: float,
    progress: Callable[[int], None] = lambda _: None,
) -> Calibration:
    """The scale at which the median ratio over images is `ratio`.

    Args:
        embeddings: of held-out images, with the features that guide.
        engine: model, schedule, settings and seed.
        guided: the guidance at scale 1.
        ratio: wanted median ratio of guidance to denoiser in the first guided step.
        progress: told the number of samples after each step.

    Raises:
        ConfigError: the strength guides no step.
        DataError: the guidance has no gradient, or something is not finite. Nothing is clipped: a
            scale for clipped gradients would hold for no others.
    """
    report = Tally(told=progress).add
    stopping = engine.settings.model_copy(update={"non_finite_gradients": "stop"})
    engine = replace(engine, settings=stopping)

    def measure(batch: Batch, plan: BatchPlan, engine: Engine) -> np.ndarray:
        return unit_ratios(batch, embeddings, engine, guided, report, plan.parts)

    ratios = run_batches(measure, embeddings, engine, guided, repeats=1)
    if broken := int((~np.isfinite(ratios)).sum()):
        raise DataError(
            f"The denoiser's noise is not finite or zero for {broken} of {len(ratios)} held-out"
            " images, so a guidance scale cannot be calibrated; set reconstruction.precision to"
            " float32."
        )
    median = float(np.median(ratios))
    if not median > 0:
        raise DataError(
            f"The guidance has no gradient on {len(ratios)} held-out images, so its scale cannot be"
            " calibrated; check that the features belong to this model."
        )
    low, high = np.quantile(ratios, (0.25, 0.75)) * ratio / median
    return Calibration(ratio / median, ratio, float(low), float(high), len(ratios))


def unit_ratios(
    batch: Batch,
    embeddings: Embeddings,
    engine: Engine,
    guided: Guided,
    progress: Callable[[int], None],
    parts: Parts = WHOLE_BATCH,
) -> np.ndarray:
    """Ratio of guidance to denoiser at scale 1 in the first guided step, one per sample."""
    inputs = place_batch(batch, embeddings, engine, parts)
    guide = bind_targets(batch, embeddings, engine, guided)
    if not guide.steps:
        raise ConfigError(
            f"A guidance strength of {guided.strength} guides none of"
            f" {len(engine.schedule.steps)} steps, so there is no scale to calibrate; raise the"
            " variant's strength or reconstruction.steps."
        )
    first = guide.steps.start
    z = sample(
        inputs.latents, inputs.noise, inputs.denoising, schedule=engine.schedule.until(first)
    )
    removed, term = guided_noise(z, engine.schedule.steps[first], inputs.denoising, guide.loss)
    progress(len(batch.rows))
    norms = (torch.linalg.vector_norm(part.flatten(1), dim=1) for part in (term, removed))
    return torch.div(*norms).cpu().numpy()
