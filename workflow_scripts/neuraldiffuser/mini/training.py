"""Training of the miniature's models: seeded, in steps, resumable to the bit.

Every random number of step k comes from a generator seeded by (seed, k), and the whole
state is in the checkpoint, so a run that was killed ends with the weights of one that
was not. Pictures are uint8 (n, 64, 64, 3); captions are token numbers, int64 (n, 5, 26).
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import neuraldiffuser.torchvision_schemas  # noqa: F401

import numpy as np
import open_clip
import torch
import torch.nn.functional as functional
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import CLIPTokenizer

from neuraldiffuser.mini import models, scenes
from neuraldiffuser.runtime import progress
from neuraldiffuser.storage import replace_atomically

KL_WEIGHT = 5e-4  # per latent element; keeps the latents near a unit normal distribution
GRADIENT_WEIGHT = 0.3
DECODER_NOISE = 0.1  # of unscaled latents: a denoiser is not exact either
SHARE_WITHOUT_CAPTION = 0.12  # for classifier-free guidance
SHARE_OF_SINGLE_CAPTIONS = 0.35  # the others: the mean of a scene's five captions
SHARE_PERTURBED = 0.5
EMA_DECAY = 0.999


@dataclass(frozen=True)
class Budget:
    """How much to train: in steps, never in minutes, so that a rerun is comparable."""

    steps: int
    batch: int
    rate: float
    weight_decay: float = 0.01
    warmup: int = 100
    checkpoint_every: int = 250
    precision: str = "bfloat16"


@dataclass(frozen=True)
class Curve:
    """What a training was like: mean loss since the previous row, and seconds so far."""

    steps: list[int]
    losses: list[float]
    seconds: float


def draw_training_data(
    *, seed: int, first: int, count: int, tokenizer: CLIPTokenizer
) -> tuple[np.ndarray, torch.Tensor]:
    """Pictures, uint8 (count, 64, 64, 3), and captions, int64 (count, 5, TOKENS), of scenes."""
    images = np.empty((count, models.IMAGE_SIZE, models.IMAGE_SIZE, 3), dtype=np.uint8)
    texts: list[str] = []
    for row in progress(range(count), description="drawing scenes", unit="scene"):
        scene = scenes.draw_scene(seed=seed, scene=first + row, size=models.IMAGE_SIZE)
        images[row] = scene.image
        texts.extend(scenes.captions(scene))
    return images, models.tokenize(tokenizer, texts).unflatten(0, (count, -1))


def initialised(build: Callable[[], nn.Module], *, seed: int) -> nn.Module:
    """A model whose random initial weights depend on the seed alone."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build()


def learning_rate(step: int, budget: Budget) -> float:
    """Linear warm-up, then a cosine to a hundredth of the rate."""
    if step < budget.warmup:
        return budget.rate * (step + 1) / budget.warmup
    done = (step - budget.warmup) / max(1, budget.steps - budget.warmup)
    return budget.rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))


def generators(seed: int, step: int) -> tuple[np.random.Generator, torch.Generator]:
    """The random numbers of one step, numpy's and torch's."""
    numbers = np.random.default_rng((seed, step))
    return numbers, torch.Generator().manual_seed(int(numbers.integers(2**62)))


def decayed_parameters(model: nn.Module, weight_decay: float) -> list[dict]:
    """Parameter groups: matrices decay, biases and norms do not."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


@torch.no_grad()
def follow(average: nn.Module, model: nn.Module, step: int) -> None:
    """Move the averaged weights towards the trained ones, faster while they are young."""
    share = 1 - min(EMA_DECAY, (1 + step) / (10 + step))
    for slow, fast in zip(average.parameters(), model.parameters(), strict=True):
        slow.lerp_(fast, share)


class Trainer:
    """A model, its average, its optimiser and how far they are."""

    def __init__(self, model: nn.Module, budget: Budget) -> None:
        self.model = model
        self.average = copy.deepcopy(model).requires_grad_(False).eval()
        self.budget = budget
        self.optimiser = torch.optim.AdamW(
            decayed_parameters(model, budget.weight_decay), lr=budget.rate, betas=(0.9, 0.98)
        )
        self.step = 0
        self.curve = Curve(steps=[], losses=[], seconds=0.0)

    def state(self) -> dict:
        """Everything that a later step depends on."""
        return {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "curve": vars(self.curve),
        }

    def resume(self, path_to_checkpoint: Path) -> None:
        """Go on from a checkpoint, if there is one."""
        if not path_to_checkpoint.exists():
            return
        state = torch.load(path_to_checkpoint, weights_only=True)
        for name in ("model", "average", "optimiser"):
            getattr(self, name).load_state_dict(state[name])
        self.step, self.curve = state["step"], Curve(**state["curve"])

    def advance(self, loss_of: Callable[[nn.Module, int], torch.Tensor]) -> float:
        """One step of AdamW; returns the loss."""
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.step, self.budget)
        self.optimiser.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.budget.precision == "bfloat16"):
            loss = loss_of(self.model, self.step)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        follow(self.average, self.model, self.step)
        self.step += 1
        return float(loss.detach())


def train(
    *,
    model: nn.Module,
    loss_of: Callable[[nn.Module, int], torch.Tensor],
    budget: Budget,
    path_to_checkpoint: Path,
    on_checkpoint: Callable[[Trainer], None] | None = None,
) -> Trainer:
    """Train up to the budget, from the checkpoint where there is one.

    Parameters
    ----------
    model : the network, with its initial weights.
    loss_of : loss of (model, step), a scalar; draws all its random numbers from the step.
    budget : steps, batch size and learning rate.
    path_to_checkpoint : read at the beginning, written at intervals.
    on_checkpoint : given the trainer after each checkpoint.

    Returns
    -------
    The trainer, whose `average` is the result.
    """
    trainer = Trainer(model.train(), budget)
    trainer.resume(path_to_checkpoint)
    losses: list[float] = []
    began = time.monotonic()
    while trainer.step < budget.steps:
        losses.append(trainer.advance(loss_of))
        if trainer.step % budget.checkpoint_every == 0 or trainer.step == budget.steps:
            trainer.curve = extended(trainer, losses, time.monotonic() - began)
            losses, began = [], time.monotonic()
            with replace_atomically(path_to_checkpoint) as temporary:
                torch.save(trainer.state(), temporary)
            if on_checkpoint is not None:
                on_checkpoint(trainer)
    return trainer


def extended(trainer: Trainer, losses: list[float], seconds: float) -> Curve:
    """The curve with one row more."""
    curve = trainer.curve
    return Curve(
        steps=[*curve.steps, trainer.step],
        losses=[*curve.losses, float(np.mean(losses))],
        seconds=curve.seconds + seconds,
    )


# --- losses ----------------------------------------------------------------------------


def to_unit_range(images: np.ndarray) -> torch.Tensor:
    """Pixels uint8 (n, h, w, 3) as float32 (n, 3, h, w) in -1..1, as diffusers takes them."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1


def for_clip(images: np.ndarray) -> torch.Tensor:
    """Pixels uint8 (n, h, w, 3) as float32 (n, 3, h, w), normalised as CLIP's are."""
    mean = torch.tensor(open_clip.OPENAI_DATASET_MEAN).view(1, 3, 1, 1)
    deviation = torch.tensor(open_clip.OPENAI_DATASET_STD).view(1, 3, 1, 1)
    return (torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255 - mean) / deviation


def gradient_difference(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Mean absolute difference of neighbouring-pixel differences: keeps edges sharp."""
    error = first - second
    return error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()


def reconstruction_error(decoded: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
    """Absolute, squared and gradient error of pictures in -1..1."""
    error = decoded - pixels
    sharpness = GRADIENT_WEIGHT * gradient_difference(decoded, pixels)
    return error.abs().mean() + error.square().mean() + sharpness


def autoencoder_loss(
    *, images: np.ndarray, batch: int, seed: int
) -> Callable[[nn.Module, int], torch.Tensor]:
    """Error of the round trip plus the weighted KL divergence."""

    def loss_of(model: AutoencoderKL, step: int) -> torch.Tensor:
        numbers, normals = generators(seed, step)
        chosen = images[numbers.integers(len(images), size=batch)]
        pixels = to_unit_range(chosen[:, :, ::-1].copy() if numbers.random() < 0.5 else chosen)
        posterior = model.encode(pixels).latent_dist
        decoded = model.decode(posterior.sample(generator=normals)).sample.float()
        divergence = posterior.kl().float().mean() / posterior.mean[0].numel()
        return reconstruction_error(decoded, pixels) + KL_WEIGHT * divergence

    return loss_of


def decoder_loss(
    *, images: np.ndarray, batch: int, seed: int
) -> Callable[[nn.Module, int], torch.Tensor]:
    """Error of decoding the slightly noisy modes of pictures; the encoder stays as it is."""

    def loss_of(model: AutoencoderKL, step: int) -> torch.Tensor:
        numbers, normals = generators(seed, step)
        pixels = to_unit_range(images[numbers.integers(len(images), size=batch)])
        with torch.no_grad():
            latents = model.encode(pixels).latent_dist.mode()
        noise = torch.randn(latents.shape, generator=normals)
        decoded = model.decode(latents + DECODER_NOISE * noise).sample.float()
        return reconstruction_error(decoded, pixels)

    return loss_of


def with_fixed_encoder(autoencoder: AutoencoderKL) -> AutoencoderKL:
    """A copy whose decoder alone is trained: the latents keep their meaning."""
    polished = copy.deepcopy(autoencoder).requires_grad_(False)
    polished.post_quant_conv.requires_grad_(True)
    polished.decoder.requires_grad_(True)
    return polished


def contrastive_loss(
    *, images: np.ndarray, tokens: torch.Tensor, batch: int, seed: int
) -> Callable[[nn.Module, int], torch.Tensor]:
    """CLIP's loss: each picture against all captions of the batch, and each caption likewise."""

    def loss_of(model: open_clip.CLIP, step: int) -> torch.Tensor:
        numbers, _ = generators(seed, step)
        chosen = numbers.choice(len(images), size=batch, replace=False)
        wording = torch.from_numpy(numbers.integers(tokens.shape[1], size=batch))
        pictures = model.encode_image(for_clip(images[chosen]), normalize=True).float()
        words = model.encode_text(tokens[torch.from_numpy(chosen), wording], normalize=True).float()
        similarity = model.logit_scale.exp().clamp(max=100) * pictures @ words.T
        same = torch.arange(batch)
        return (
            functional.cross_entropy(similarity, same)
            + functional.cross_entropy(similarity.T, same)
        ) / 2

    return loss_of


@dataclass(frozen=True)
class Conditions:
    """What the denoiser is told of the training scenes.

    states: float16 (wordings, tokens, width), last hidden states of the distinct captions.
    wordings: int64 (scenes, 5), which of them a scene's captions are.
    empty: float32 (tokens, width), those of the empty caption.
    mean, deviation: float32 (tokens, width), over the scenes' mean states.
    """

    states: np.ndarray
    wordings: np.ndarray
    empty: torch.Tensor
    mean: torch.Tensor
    deviation: torch.Tensor


def scene_states(conditions: Conditions, scenes: np.ndarray) -> torch.Tensor:
    """States of all captions of scenes, float32 (n, 5, tokens, width)."""
    return torch.from_numpy(conditions.states[conditions.wordings[scenes]].astype(np.float32))


def pick_conditions(
    conditions: Conditions, *, scenes: np.ndarray, numbers: np.random.Generator
) -> torch.Tensor:
    """One condition per scene, float32 (n, tokens, width).

    In use the condition is the mean over a scene's five captions, or what was decoded
    of it from a brain: shrunk towards the mean and noisy. Hence the mixture.
    """
    count = len(scenes)
    states = scene_states(conditions, scenes)
    chosen = torch.from_numpy(numbers.integers(states.shape[1], size=count))
    single = states[torch.arange(count), chosen]
    kind = torch.from_numpy(numbers.random((count, 1, 1)).astype(np.float32))
    clean = torch.where(kind < SHARE_OF_SINGLE_CAPTIONS, single, states.mean(dim=1))
    perturbed = perturb(clean, conditions=conditions, numbers=numbers)
    disturbed = torch.from_numpy(numbers.random((count, 1, 1)) < SHARE_PERTURBED)
    told = torch.where(disturbed, perturbed, clean)
    untold = torch.from_numpy(numbers.random((count, 1, 1)) < SHARE_WITHOUT_CAPTION)
    return torch.where(untold, conditions.empty, told)


def perturb(
    clean: torch.Tensor, *, conditions: Conditions, numbers: np.random.Generator
) -> torch.Tensor:
    """Shrink conditions towards the mean by up to 40 % and add up to 0.3 deviations of noise."""
    shape = (len(clean), 1, 1)
    kept = torch.from_numpy(numbers.uniform(0.6, 1.0, shape).astype(np.float32))
    amount = torch.from_numpy(numbers.uniform(0.0, 0.3, shape).astype(np.float32))
    noise = torch.from_numpy(numbers.standard_normal(clean.shape, dtype=np.float32))
    return (
        conditions.mean + kept * (clean - conditions.mean) + amount * conditions.deviation * noise
    )


def denoising_loss(
    *, latents: np.ndarray, conditions: Conditions, scheduler: DDIMScheduler, batch: int, seed: int
) -> Callable[[nn.Module, int], torch.Tensor]:
    """Mean squared error of the predicted noise, at timesteps spread evenly over a batch.

    latents: float16 (scenes, 4, 16, 16), already scaled to unit deviation.
    """
    steps = scheduler.config.num_train_timesteps

    def loss_of(model: UNet2DConditionModel, step: int) -> torch.Tensor:
        numbers, normals = generators(seed, step)
        scenes = numbers.integers(len(latents), size=batch)
        clean = torch.from_numpy(latents[scenes].astype(np.float32))
        noise = torch.randn(clean.shape, generator=normals)
        spread = (np.arange(batch) + numbers.random(batch)) / batch
        timesteps = torch.from_numpy((spread * steps).astype(np.int64))
        told = pick_conditions(conditions, scenes=scenes, numbers=numbers)
        noisy = scheduler.add_noise(clean, noise, timesteps)
        with sdpa_kernel(SDPBackend.MATH):  # of 64 tokens: the fused kernel's gradient is slower
            predicted = model(noisy, timesteps, told).sample
        return functional.mse_loss(predicted.float(), noise)

    return loss_of


# --- what the denoiser is trained on -----------------------------------------------------


@torch.no_grad()
def encode_latents(
    autoencoder: AutoencoderKL, images: np.ndarray, *, batch: int = 100
) -> np.ndarray:
    """Mode of the posterior of each picture, unscaled, float16 (n, 4, 16, 16)."""
    parts = [
        autoencoder.encode(to_unit_range(images[first : first + batch]))
        .latent_dist.mode()
        .half()
        .numpy()
        for first in range(0, len(images), batch)
    ]
    return np.concatenate(parts)


@torch.no_grad()
def encode_captions(encoder: nn.Module, tokens: torch.Tensor, *, batch: int = 500) -> np.ndarray:
    """Last hidden states of captions (n, tokens): float16 (n, tokens, width)."""
    parts = [encoder(part).last_hidden_state.half().numpy() for part in tokens.split(batch)]
    return np.concatenate(parts)


def encode_empty(encoder: nn.Module, tokenizer: CLIPTokenizer) -> torch.Tensor:
    """Last hidden states of the empty caption, float32 (tokens, width)."""
    return torch.from_numpy(encode_captions(encoder, models.tokenize(tokenizer, [""]))[0]).float()


def gather_conditions(
    *, encoder: nn.Module, tokens: torch.Tensor, empty: torch.Tensor, sample: int = 4000
) -> Conditions:
    """Conditions of scenes with captions (scenes, 5, tokens), each wording encoded once."""
    distinct, wordings = torch.unique(tokens.flatten(0, 1), dim=0, return_inverse=True)
    states = encode_captions(encoder, distinct)
    wordings = wordings.view(tokens.shape[:2]).numpy()
    means = torch.from_numpy(states[wordings[:sample]].astype(np.float32)).mean(dim=1)
    return Conditions(
        states=states,
        wordings=wordings,
        empty=empty,
        mean=means.mean(dim=0),
        deviation=means.std(dim=0),
    )


def with_unit_latents(autoencoder: AutoencoderKL, images: np.ndarray) -> AutoencoderKL:
    """The autoencoder, whose scaling factor now gives the latents of `images` unit deviation."""
    scaled = copy.deepcopy(autoencoder)
    deviation = encode_latents(autoencoder, images).astype(np.float32).std()
    scaled.register_to_config(scaling_factor=round(1 / float(deviation), 4))
    return scaled
