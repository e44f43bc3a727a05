"""Training as the released code does it, written plainly: the peers' way of ``training.py``.

All batches of an epoch are made beforehand, on the host, in float32, one by one; each is copied to
the device when its turn comes. Every block of the mixer is computed and trained, whether it has an
effect or not. AdamW is torch's default (on a GPU one call per operation and group of weights, on a
CPU one loop over the weights; fused on neither), and every number is fetched at each step, as are
the prior's cosine and the batch's retrieval, which the released code shows while it trains.
Facts, not code, are from HaoyyLi/NeuralDiffuser, src/train_c.py and src/train_z.py. Draws are
seeded as in our engine, so that losses can be compared; the released code draws from the global
generators.
"""

import math
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.optim.lr_scheduler import OneCycleLR

from neuraldiffuser.config.decoder import Recipe
from neuraldiffuser.decoders.architectures import HighLevelDecoder
from neuraldiffuser.decoders.backbones import ReleasedMixer
from neuraldiffuser.decoders.data import Trials
from neuraldiffuser.decoders.parallel import Dropout
from neuraldiffuser.decoders.prior import cosine_schedule
from neuraldiffuser.decoders.training import seed_of

# --- the network ---------------------------------------------------------------------------------


class WholeMixer(nn.Module):
    """The mixer with all of its blocks: on both axes, with both residuals."""

    def __init__(self, mixer: ReleasedMixer) -> None:
        super().__init__()
        self.channel_blocks = mixer.channel_blocks
        self.token_blocks = mixer.token_blocks
        self.output = mixer.output
        self.token_shape = mixer.token_shape

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """(n, hidden) to (n, tokens, width)."""
        x = hidden[:, None]  # (n, 1, hidden)
        residual_1, residual_2 = x, x.transpose(1, 2)
        for channels, tokens in zip(self.channel_blocks, self.token_blocks, strict=True):
            residual_1 = channels(x) + residual_1
            residual_2 = tokens(residual_1.transpose(1, 2)) + residual_2
            x = residual_2.transpose(1, 2)
        return self.output(x.flatten(1)).unflatten(1, self.token_shape)


def as_released(model: nn.Module) -> nn.Module:
    """A copy with the same weights: torch's dropout, and the mixer computed and trained whole."""
    copy = deepcopy(model)
    if isinstance(getattr(copy, "backbone", None), ReleasedMixer):
        copy.backbone = WholeMixer(copy.backbone)
    for module in list(copy.modules()):
        for name, child in module.named_children():
            if isinstance(child, Dropout):
                setattr(module, name, nn.Dropout(child.probability))
    return copy.requires_grad_(True)


# --- batches -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Prepared:
    """A step's batch on the host, in float32, and which of its trials are mixed how."""

    voxels: dict[str, torch.Tensor]
    target: torch.Tensor
    partners: list[torch.Tensor]
    kept: list[torch.Tensor]


def prepare_epoch(trials: Trials, recipe: Recipe, epoch: int) -> list[Prepared]:
    """All batches of an epoch; trials lie on the host."""
    first = epoch * steps_per_epoch(recipe)
    steps = range(first, first + steps_per_epoch(recipe))
    return [prepare(trials, recipe, step, mixes=has_mixco(epoch, recipe)) for step in steps]


def prepare(trials: Trials, recipe: Recipe, step: int, *, mixes: bool) -> Prepared:
    """Gathers a batch and mixes each subject's voxels by a permutation of its own."""
    batch = trials.batch(step, size=recipe.budget.batch_size, seed=recipe.seed)
    if not mixes:
        return Prepared(batch.voxels, batch.target, [], [])
    generator = np.random.default_rng([recipe.seed, step])
    shape = (len(batch.voxels), len(batch.ids) // len(batch.voxels))
    partners = generator.permuted(np.tile(np.arange(shape[1]), (shape[0], 1)), axis=1)
    kept = generator.beta(recipe.objective.mixco_beta, recipe.objective.mixco_beta, size=shape)
    kept[generator.random(shape) > recipe.objective.mixco_probability] = 1
    partners, kept = list(torch.from_numpy(partners)), list(torch.from_numpy(kept).float())
    voxels = {
        subject: rows * keep[:, None] + rows[partner] * (1 - keep[:, None])
        for (subject, rows), partner, keep in zip(batch.voxels.items(), partners, kept, strict=True)
    }
    return Prepared(voxels, batch.target, partners, kept)


def steps_per_epoch(recipe: Recipe) -> int:
    """Whole batches of an epoch."""
    return recipe.budget.samples_per_epoch // recipe.budget.batch_size


def has_mixco(epoch: int, recipe: Recipe) -> bool:
    """Whether an epoch is one of the first third's, which mix voxels."""
    return epoch < int(recipe.objective.mixco_fraction * recipe.budget.epochs)


# --- losses --------------------------------------------------------------------------------------

Shown = dict[str, float]
Compute = Callable[[nn.Module, Prepared, torch.Generator, int], tuple[torch.Tensor, Shown]]


def high_level_loss(recipe: Recipe, device: torch.device) -> Compute:
    """Contrast of the projector and 30 times the prior's error."""
    objective = recipe.objective
    levels = cosine_schedule(recipe.prior.timesteps).float().to(device)
    mixed = int(objective.mixco_fraction * recipe.budget.epochs)
    temperatures = cosine_anneal(*objective.soft_temperatures, recipe.budget.epochs - mixed)

    def compute(
        model: nn.Module, batch: Prepared, generator: torch.Generator, epoch: int
    ) -> tuple[torch.Tensor, Shown]:
        voxels = {subject: rows.to(device) for subject, rows in batch.voxels.items()}
        target = batch.target.to(device)
        assert not target.isnan().any()
        brain = model(voxels)
        vectors = functional.normalize(model.projector(brain).flatten(1).float(), dim=-1)
        wanted = functional.normalize(target.flatten(1), dim=-1)
        prior, predicted = prior_error(model.prior, brain, target, levels, recipe, generator)
        shown = {
            "prior": prior.item(),
            "cosine": functional.cosine_similarity(predicted, target).mean().item(),
            "squared": functional.mse_loss(predicted, target).item(),
        }
        if has_mixco(epoch, recipe):
            partner = torch.cat([rows.to(device) for rows in batch.partners])
            kept = torch.cat([rows.to(device) for rows in batch.kept])
            contrast = mixco_nce(vectors, wanted, partner, kept, objective.mixco_temperature)
        else:
            contrast = soft_clip(vectors, wanted, temperatures[epoch - mixed])
        shown["contrastive"] = contrast.item()
        shown["forward"] = top_one(vectors, wanted).item()
        shown["backward"] = top_one(wanted, vectors).item()
        loss = objective.contrastive_weight * contrast + objective.prior_weight * prior
        return loss, shown

    return compute


def low_level_loss(recipe: Recipe, device: torch.device) -> Compute:
    """L1 of the latent over its divisor; the teacher is measured apart."""

    def compute(
        model: nn.Module, batch: Prepared, _generator: torch.Generator, _epoch: int
    ) -> tuple[torch.Tensor, Shown]:
        predicted = model({subject: rows.to(device) for subject, rows in batch.voxels.items()})
        error = functional.l1_loss(predicted.float(), batch.target.to(device))
        loss = error / recipe.low_level.l1_divisor
        return loss, {"l1": loss.item()}

    return compute


def prior_error(
    network: nn.Module,
    brain: torch.Tensor,
    target: torch.Tensor,
    levels: torch.Tensor,
    recipe: Recipe,
    generator: torch.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean squared error of the target that the prior predicts from noise, and the prediction."""
    count, device = len(target), target.device
    timesteps = torch.randint(len(levels), (count,), generator=generator, device=device)
    noise = torch.randn(target.shape, generator=generator, device=device)
    hidden = torch.rand((2, count, 1, 1), generator=generator, device=device)
    hidden = hidden < recipe.prior.condition_dropout
    level = levels[timesteps][:, None, None]
    noised = level.sqrt() * target + (1 - level).sqrt() * noise
    noised = torch.where(hidden[1], network.null_target, noised)
    brain = torch.where(hidden[0], network.null_brain.to(brain.dtype), brain)
    predicted = network(noised, timesteps, brain).float()
    return functional.mse_loss(predicted, target), predicted


def mixco_nce(
    vectors: torch.Tensor,
    wanted: torch.Tensor,
    partner: torch.Tensor,
    kept: torch.Tensor,
    temperature: float,
) -> torch.Tensor:
    """Cross-entropy against the mixture, both ways; partners are numbered within their subject."""
    logits = whole_product(vectors, wanted) / temperature
    weights = torch.diag(kept)
    weights[torch.arange(len(kept), device=kept.device), partner] = 1 - kept
    forward = -(logits.log_softmax(-1) * weights).sum(-1).mean()
    return (forward - (logits.T.log_softmax(-1) * weights.T).sum(-1).mean()) / 2


def soft_clip(vectors: torch.Tensor, wanted: torch.Tensor, temperature: float) -> torch.Tensor:
    """Cross-entropy against the targets' own similarities, both ways."""
    own = whole_product(wanted, wanted) / temperature
    logits = whole_product(vectors, wanted) / temperature
    forward = -(logits.log_softmax(-1) * own.softmax(-1)).sum(-1).mean()
    return (forward - (logits.T.log_softmax(-1) * own.softmax(-1)).sum(-1).mean()) / 2


def whole_product(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """All dot products of two sets of rows, in float32 as in our engine."""
    with torch.autocast(first.device.type, enabled=False):
        return first @ second.T


def top_one(vectors: torch.Tensor, candidates: torch.Tensor) -> torch.Tensor:
    """Part of the rows whose most similar candidate is their own."""
    found = whole_product(vectors, candidates).argmax(dim=1)
    return (found == torch.arange(len(found), device=found.device)).float().mean()


def cosine_anneal(first: float, last: float, epochs: int) -> list[float]:
    """One temperature per epoch: half a cosine from the first to the last."""
    progress = [epoch / max(epochs - 1, 1) for epoch in range(epochs)]
    return [last + (first - last) / 2 * (1 + math.cos(math.pi * part)) for part in progress]


# --- the loop ------------------------------------------------------------------------------------


def train_plainly(
    model: nn.Module, trials: Trials, recipe: Recipe, *, half: bool
) -> list[dict[str, float]]:
    """Trains ``model`` in place for the recipe's budget.

    Args:
        model: on the device that trains it.
        trials: on the host.
        recipe: losses, optimiser and budget; its precision is not read.
        half: whether the forward pass is float16 with a scaled loss, else float32.

    Returns:
        Everything that was shown, step by step.
    """
    model.train()
    device = next(model.parameters()).device
    high_level = isinstance(model, HighLevelDecoder)
    compute = (high_level_loss if high_level else low_level_loss)(recipe, device)
    optimiser = make_optimiser(model, recipe)
    schedule = OneCycleLR(
        optimiser,
        max_lr=recipe.optimiser.learning_rate,
        total_steps=recipe.budget.epochs * steps_per_epoch(recipe),
        pct_start=recipe.optimiser.warmup_fraction,
        final_div_factor=recipe.optimiser.final_division,
    )
    scaler = torch.amp.GradScaler(device.type, enabled=half)
    history = []
    for epoch, batch in walk_epochs(trials, recipe):
        generator = torch.Generator(device)
        generator.manual_seed(seed_of(recipe.seed, len(history), 1))
        optimiser.zero_grad()
        with torch.autocast(device.type, torch.float16, enabled=half):
            loss, shown = compute(model, batch, generator, epoch)
        if loss.isnan().any():
            raise ValueError("the loss is not a number")
        scaler.scale(loss).backward()
        scaler.step(optimiser)
        scaler.update()
        history.append({"loss": loss.item(), **shown})
        schedule.step()
    return history


def walk_epochs(trials: Trials, recipe: Recipe) -> Iterator[tuple[int, Prepared]]:
    """Every batch with the number of its epoch, prepared epoch by epoch."""
    for epoch in range(recipe.budget.epochs):
        for batch in prepare_epoch(trials, recipe, epoch):
            yield epoch, batch


def make_optimiser(model: nn.Module, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW as torch builds it by default; biases outside the voxel encoders do not decay."""
    named = list(model.named_parameters())
    exempt = [p for name, p in named if "bias" in name and not name.startswith("voxel_encoder.")]
    chosen = set(map(id, exempt))
    groups = [
        {"params": [p for _, p in named if id(p) not in chosen], "weight_decay": 0.01},
        {"params": exempt, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.optimiser.learning_rate)
