"""Algorithm 1: guided DDIM from a noised latent, batched over images and repeats.

    here                  paper                 meaning
    z                     z_t                   noisy latent, (n, c, h, w)
    abar                  alpha-bar_t           share of signal in z
    e_u, e_c              eps_theta(z_t, c)     noise predicted without and with the condition
    e                     eps-hat               noise that is removed in a step
    z_0                   z-hat_0               estimate of the clean latent (Eq. 11)
    z_hat                 z-hat_t               latent that is decoded for the guidance (Eq. 12)
    guide.loss            kappa L               scaled loss; a sum of them where several guide
    guide.steps           eta                   indices of the guided steps
    term                  sqrt(1-abar) k grad L what guidance adds to e (line 8)

Each sample is independent of the others in its batch: a gradient never mixes images. So the
gradient may be taken in parts, and in three stages that never hold more than one network's graph
of a part: dL/dx at the decoded images x, dL/dz_hat through the decoder, dL/dz through the denoiser.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from neuraldiffuser.config.reconstruction import Sampling
from neuraldiffuser.diffusion.gradients import NON_FINITE, OnClipped, pull_back
from neuraldiffuser.diffusion.memory import WHOLE_BATCH, Parts, split
from neuraldiffuser.diffusion.models import LatentDiffusion
from neuraldiffuser.diffusion.schedule import Schedule, Step
from neuraldiffuser.diffusion.self_attention import degrade


class Loss(Protocol):
    """A guidance function with its targets bound: decoded images (n, 3, h, w) to losses (n,)."""

    def __call__(self, images: Tensor) -> Tensor:
        """The losses of the samples whose targets it has."""

    def of(self, rows: slice) -> Loss:
        """The same for some of them; called only where a batch is guided in parts."""


@dataclass(frozen=True)
class Guide:
    """What guides a batch, with its scale, and in which steps."""

    loss: Loss
    steps: range


class Prediction(NamedTuple):
    """Noise without and with the condition, and the attention of the former (see Denoiser)."""

    e_u: Tensor
    e_c: Tensor
    attention: Tensor | None

    def detach(self) -> Prediction:
        """The same values without a graph."""
        return Prediction(self.e_u.detach(), self.e_c.detach(), self.attention)


@dataclass(frozen=True)
class Denoising:
    """What every step of a batch shares: model, condition (n, tokens, width) and settings.

    Attributes:
        parts: how many samples are guided and decoded at once; changes last bits only.
        on_clipped: told which samples' gradients were clipped, bool (n,), in which step.
    """

    model: LatentDiffusion
    condition: Tensor
    settings: Sampling
    parts: Parts = WHOLE_BATCH
    on_clipped: OnClipped = lambda _broken, _step: None

    def of(self, rows: slice) -> Denoising:
        """The same for some samples."""
        return replace(self, condition=self.condition[rows])


def sample(
    latents: Tensor,
    noise: Tensor,
    denoising: Denoising,
    *,
    schedule: Schedule,
    guide: Guide | None = None,
    on_step: Callable[[int, Tensor], None] = lambda _index, _z: None,
) -> Tensor:
    """Reconstructs latents from decoded ones.

    Args:
        latents: decoded latents (n, c, h, w), scaled as the autoencoder scales.
        noise: standard normal noise of that shape.
        denoising: model, condition and settings.
        schedule: the steps to run.
        guide: the guidance, or None for no guided step.
        on_step: called after each step with its index and the latents it left, (n, c, h, w).

    Returns:
        Clean latents (n, c, h, w).

    Raises:
        DataError: a gradient of the guidance is not finite.
    """
    guided = guide.steps if guide else range(0)
    z = add_noise(latents, noise, schedule.alpha_bar_start)  # Alg. 1 line 2
    for index, step in enumerate(schedule.steps):  # line 3
        if index in guided:
            e, term = guided_noise(z, step, denoising, guide.loss)
            e = e + term  # line 8
        else:
            e = unguided_noise(z, step, denoising)
        z = ddim_step(z, e, step)  # lines 9 and 11
        on_step(index, z)
    return z


def add_noise(z_0: Tensor, noise: Tensor, abar: float) -> Tensor:
    """The noisy latent at level abar (Alg. 1 line 2)."""
    return math.sqrt(abar) * z_0 + math.sqrt(1 - abar) * noise


def ddim_step(z: Tensor, e: Tensor, step: Step) -> Tensor:
    """The latent of the next noise level, without new noise (Alg. 1 line 9; DDIM Eq. 12)."""
    z_0 = exact_tweedie(z, e, step.alpha_bar)
    return add_noise(z_0, e, step.alpha_bar_next)


# --- predictions --------------------------------------------------------------------------


def predict_together(z: Tensor, step: Step, denoising: Denoising) -> Prediction:
    """Both predictions in one pass of the denoiser, the unconditional half first."""
    count = len(z)
    nothing = denoising.model.unconditional.expand_as(denoising.condition)
    noise, attention = denoising.model.denoise(
        torch.cat([z, z]),
        step.timestep,
        torch.cat([nothing, denoising.condition.to(nothing)]),
        attended=count if denoising.settings.self_attention_scale else 0,
    )
    return Prediction(noise[:count], noise[count:], attention)


def combine(prediction: Prediction, denoising: Denoising) -> Tensor:
    """Classifier-free guidance (Ho and Salimans 2022)."""
    e_u, e_c, _ = prediction
    return e_u + denoising.settings.classifier_free_scale * (e_c - e_u)


@torch.no_grad()
def removed_noise(z: Tensor, step: Step, prediction: Prediction, denoising: Denoising) -> Tensor:
    """Noise that a step removes: classifier-free guidance plus self-attention guidance."""
    e = combine(prediction, denoising)
    scale = denoising.settings.self_attention_scale
    if not scale:
        return e
    degraded = degrade(z, prediction.e_u, attention=prediction.attention, step=step)
    nothing = denoising.model.unconditional.expand_as(denoising.condition)
    e_degraded = denoising.model.denoise(degraded, step.timestep, nothing).noise
    return e + scale * (prediction.e_u - e_degraded)


@torch.no_grad()
def unguided_noise(z: Tensor, step: Step, denoising: Denoising) -> Tensor:
    """Noise that an unguided step removes (Alg. 1 line 11)."""
    return removed_noise(z, step, predict_together(z, step, denoising), denoising)


# --- the guidance term: each switch a registry of named functions ---------------------------


def exact_tweedie(z: Tensor, e: Tensor, abar: float) -> Tensor:
    """Eq. 11 with the score s = -e / sqrt(1 - abar)."""
    return (z - math.sqrt(1 - abar) * e) / math.sqrt(abar)


def released_tweedie(z: Tensor, e: Tensor, abar: float) -> Tensor:
    """Eq. 11 with -e in the place of the score, as the authors' code computes it."""
    return (z - (1 - abar) * e) / math.sqrt(abar)


TWEEDIE: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "exact": exact_tweedie,
    "released": released_tweedie,
}


def blend_by_noise_level(z_0: Tensor, z: Tensor, abar: float) -> Tensor:
    """Eq. 12: mostly the clean estimate while z is noisy."""
    weight = math.sqrt(1 - abar)
    return weight * z_0 + (1 - weight) * z


def keep_estimate(z_0: Tensor, _z: Tensor, _abar: float) -> Tensor:
    """The clean estimate alone, as in universal guidance."""
    return z_0


LATENT_BLENDS: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "noise_level": blend_by_noise_level,
    "none": keep_estimate,
}


def follow_conditional(z: Tensor, step: Step, denoising: Denoising) -> tuple[Prediction, Tensor]:
    """The gradient passes through the conditional prediction; the other needs no graph."""
    model = denoising.model
    e_c = model.denoise(z, step.timestep, denoising.condition).noise
    with torch.no_grad():
        e_u, attention = model.denoise(
            z,
            step.timestep,
            model.unconditional.expand_as(denoising.condition),
            attended=len(z) if denoising.settings.self_attention_scale else 0,
        )
    return Prediction(e_u, e_c, attention), e_c


def follow_classifier_free(
    z: Tensor, step: Step, denoising: Denoising
) -> tuple[Prediction, Tensor]:
    """The gradient passes through both predictions, combined."""
    prediction = predict_together(z, step, denoising)
    return prediction, combine(prediction, denoising)


GUIDANCE_PREDICTIONS: dict[str, Callable] = {
    "conditional": follow_conditional,
    "classifier_free": follow_classifier_free,
}


def guided_noise(z: Tensor, step: Step, denoising: Denoising, loss: Loss) -> tuple[Tensor, Tensor]:
    """Noise that the denoiser removes, and what guidance adds to it.

    Raises:
        DataError: the gradient is not finite, and the settings do not say to clip it.
    """
    rows = split(len(z), denoising.parts.guided)
    parts = [latent_gradient(z[r], step, denoising.of(r), part_of(loss, r, z)) for r in rows]
    gradient = torch.cat([part for _, part in parts])
    settle = NON_FINITE[denoising.settings.non_finite_gradients]
    gradient = settle(gradient, step, denoising.on_clipped)
    removed = removed_noise(z, step, join([part for part, _ in parts]), denoising)
    return removed, math.sqrt(1 - step.alpha_bar) * gradient


def part_of(loss: Loss, rows: slice, z: Tensor) -> Loss:
    """The loss of some of the samples z; itself where they are all."""
    return loss if len(z[rows]) == len(z) else loss.of(rows)


def join(predictions: list[Prediction]) -> Prediction:
    """Predictions of parts as one."""
    e_u, e_c, attention = zip(*predictions, strict=True)
    recorded = [part for part in attention if part is not None]
    return Prediction(torch.cat(e_u), torch.cat(e_c), torch.cat(recorded) if recorded else None)


def latent_gradient(
    z: Tensor, step: Step, denoising: Denoising, loss: Loss
) -> tuple[Prediction, Tensor]:
    """What the denoiser predicts, and grad L with respect to z (line 7)."""
    z = z.detach().clone().requires_grad_()
    prediction, z_hat = estimate(z, step, denoising)
    rows = split(len(z), denoising.parts.decoded)
    parts = [decoded_gradient(z_hat[r], denoising.model, part_of(loss, r, z)) for r in rows]
    return prediction.detach(), pull_back(torch.cat(parts), z_hat, z)


@torch.enable_grad()
def estimate(z: Tensor, step: Step, denoising: Denoising) -> tuple[Prediction, Tensor]:
    """What the denoiser predicts, and z_hat with its graph."""
    settings, abar = denoising.settings, step.alpha_bar
    prediction, e = GUIDANCE_PREDICTIONS[settings.guidance_prediction](z, step, denoising)
    z_0 = TWEEDIE[settings.tweedie](z, e, abar)  # line 4
    return prediction, LATENT_BLENDS[settings.latent_blend](z_0, z, abar)  # line 6


@torch.enable_grad()
def decoded_gradient(z_hat: Tensor, model: LatentDiffusion, loss: Loss) -> Tensor:
    """Gradient of the losses of the decoded images with respect to z_hat."""
    z_hat = z_hat.detach().requires_grad_()
    images = model.decode(z_hat)
    seen = images.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(seen).sum(), seen)
    return pull_back(gradient, images, z_hat)
