"""What each pipeline minimises: one function per pipeline, from batch and step to named losses."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from neuraldiffuser.config.decoder import Budget, Objective, Recipe
from neuraldiffuser.decoders.architectures import HighLevelDecoder
from neuraldiffuser.decoders.data import Batch
from neuraldiffuser.decoders.losses import (
    PERMUTATIONS,
    Mixture,
    draw_mixture,
    latent_l1_loss,
    mix_voxels,
    mixco_loss,
    soft_clip_loss,
    soft_contrastive_loss,
    soft_temperature,
    unit_vectors,
)
from neuraldiffuser.decoders.low_level import LowLevelDecoder
from neuraldiffuser.decoders.parallel import Share
from neuraldiffuser.decoders.prior import cosine_schedule, prior_loss
from neuraldiffuser.decoders.teachers import Teacher, map_vectors

Losses = dict[str, torch.Tensor]
LossFunction = Callable[[Batch, int, torch.Generator], Losses]


def total_steps(budget: Budget) -> int:
    """Steps of a training: whole batches per epoch, at least one."""
    return budget.epochs * steps_per_epoch(budget)


def steps_per_epoch(budget: Budget) -> int:
    """Whole batches in ``samples_per_epoch``, at least one."""
    return max(budget.samples_per_epoch // budget.batch_size, 1)


@dataclass(frozen=True)
class Phase:
    """Which contrastive loss an epoch has, and its temperature."""

    mixco: bool
    temperature: float


def phase_of(step: int, budget: Budget, objective: Objective) -> Phase:
    """MixCo in the first part of the epochs; then soft CLIP with its temperature schedule."""
    epoch = step // steps_per_epoch(budget)
    mixco_epochs = int(objective.mixco_fraction * budget.epochs)
    if epoch < mixco_epochs:
        return Phase(mixco=True, temperature=objective.mixco_temperature)
    progress = (epoch - mixco_epochs) / max(budget.epochs - mixco_epochs - 1, 1)
    return Phase(mixco=False, temperature=soft_temperature(progress, *objective.soft_temperatures))


def high_level_losses(model: HighLevelDecoder, recipe: Recipe) -> LossFunction:
    """Equation 3: contrastive loss of the projector and the prior's loss."""
    objective = recipe.objective
    levels = cosine_schedule(recipe.prior.timesteps).float().to(model.mean.device)

    def losses(batch: Batch, step: int, generator: torch.Generator) -> Losses:
        phase, share = phase_of(step, recipe.budget, objective), Share.current()
        voxels, mixture = batch.voxels, None
        if phase.mixco:
            mixture = mixture_of(batch, step, recipe)
            voxels = mix_voxels(voxels, mixture)
        brain = model({subject: share.take(rows) for subject, rows in voxels.items()})
        p, c = share.gather(unit_vectors(model.project(brain))), unit_vectors(batch.target)
        if mixture is None:
            contrastive = soft_clip_loss(p, c, phase.temperature)
        else:
            weights = PERMUTATIONS[recipe.mixco_permutation](mixture)
            contrastive = mixco_loss(p, c, weights, phase.temperature)
        prior = prior_loss(
            model.prior,
            brain,
            (batch.target - model.mean) / model.scale,
            levels=levels,
            condition_dropout=recipe.prior.condition_dropout,
            generator=generator,
            share=share,
        )
        total = objective.contrastive_weight * contrastive + objective.prior_weight * prior
        return {"loss": total, "contrastive": contrastive, "prior": prior}

    return losses


def mixture_of(batch: Batch, step: int, recipe: Recipe) -> Mixture:
    """The step's own draw of partners and weights, on the batch's device."""
    drawn = draw_mixture(
        np.random.default_rng([recipe.seed, step]),
        shape=(len(batch.voxels), len(batch.ids) // len(batch.voxels)),
        beta=recipe.objective.mixco_beta,
        probability=recipe.objective.mixco_probability,
    )
    device = batch.target.device
    return Mixture(*(part.to(device, non_blocking=True) for part in (drawn.partner, drawn.kept)))


def low_level_losses(
    model: LowLevelDecoder, recipe: Recipe, teacher: Teacher | None
) -> LossFunction:
    """Equation 4 with the released weights: L1 over a divisor, and soft contrast of the maps."""
    settings = recipe.low_level

    def losses(batch: Batch, _: int, generator: torch.Generator) -> Losses:
        share = Share.current()
        maps = model.maps({subject: share.take(rows) for subject, rows in batch.voxels.items()})
        latent, target = model.upsampler(maps).float(), share.take(batch.target)
        l1 = latent_l1_loss(latent, target, settings.l1_divisor)
        if teacher is None:
            return {"loss": l1, "l1": l1}
        vectors = map_vectors(model.projector(maps)), *teacher(batch.ids, generator, share)
        student, clean, augmented = (share.gather(part).flatten(0, 1) for part in vectors)
        contrastive = soft_contrastive_loss(student, clean, augmented, settings.teacher_temperature)
        total = l1 + settings.teacher_weight * contrastive
        return {"loss": total, "l1": l1, "contrastive": contrastive}

    return losses
