"""Images from embeddings: batches of samples through the guided sampler and the decoder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from neuraldiffuser.config.reconstruction import Sampling
from neuraldiffuser.diffusion.embeddings import Embeddings
from neuraldiffuser.diffusion.guidance import Guidance
from neuraldiffuser.diffusion.models import LatentDiffusion
from neuraldiffuser.diffusion.noise import draw_noise
from neuraldiffuser.diffusion.sampler import Denoising, Guide, sample
from neuraldiffuser.diffusion.schedule import Schedule, choose_guided_steps
from neuraldiffuser.errors import DataError


@dataclass(frozen=True)
class Guided:
    """A guidance function, its scale kappa and its strength eta."""

    function: Guidance
    scale: float
    strength: float


@dataclass(frozen=True)
class Batch:
    """Samples that are made together: for each, the row of its image and its repeat."""

    rows: np.ndarray
    repeats: np.ndarray


@dataclass(frozen=True)
class Engine:
    """What all batches of a job share."""

    model: LatentDiffusion
    schedule: Schedule
    settings: Sampling
    seed: int


def plan_batches(count: int, *, repeats: int, batch_size: int) -> list[Batch]:
    """All samples, image by image, in batches of at most `batch_size`."""
    rows = np.repeat(np.arange(count), repeats)
    numbers = np.tile(np.arange(repeats), count)
    starts = range(0, len(rows), batch_size)
    return [Batch(rows[a : a + batch_size], numbers[a : a + batch_size]) for a in starts]


def reconstruct(
    embeddings: Embeddings,
    engine: Engine,
    *,
    repeats: int,
    guided: Guided | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> np.ndarray:
    """Reconstructs every image `repeats` times.

    Args:
        embeddings: of n images.
        engine: model, schedule, settings and seed.
        repeats: reconstructions per image, from different noise.
        guided: the guidance, or None.
        progress: told the number of samples after each step of each batch.

    Returns:
        uint8 (n, repeats, h, w, 3).
    """
    batches = plan_batches(
        len(embeddings.ids), repeats=repeats, batch_size=engine.settings.batch_size
    )
    images = [
        decode_images(engine.model, sample_batch(batch, embeddings, engine, guided, progress))
        for batch in batches
    ]
    joined = np.concatenate(images)
    return joined.reshape(len(embeddings.ids), repeats, *joined.shape[1:])


def sample_batch(
    batch: Batch,
    embeddings: Embeddings,
    engine: Engine,
    guided: Guided | None,
    progress: Callable[[int], None],
) -> Tensor:
    """Clean latents of one batch, float32 (n, c, h, w)."""
    inputs = place_batch(batch, embeddings, engine)
    return sample(
        inputs.latents,
        inputs.noise,
        inputs.denoising,
        schedule=engine.schedule,
        guide=bind_targets(batch, embeddings, engine, guided) if guided else None,
        on_step=lambda _index, _z: progress(len(batch.rows)),
    )


@dataclass(frozen=True)
class Inputs:
    """A batch on the model's device: latents and noise (n, c, h, w), and its denoising."""

    latents: Tensor
    noise: Tensor
    denoising: Denoising


def place_batch(batch: Batch, embeddings: Embeddings, engine: Engine) -> Inputs:
    """Puts a batch's embeddings and its noise on the model's device.

    Raises:
        DataError: the embeddings were decoded for another model.
    """
    place = partial(place_rows, rows=batch.rows, device=engine.model.device)
    condition = place(embeddings.texts)
    if condition.shape[1:] != engine.model.unconditional.shape:
        raise DataError(
            f"Embeddings of clip_text have shape {tuple(condition.shape[1:])}, but the text encoder"
            f" gives {tuple(engine.model.unconditional.shape)}; decode them for the model that"
            " models.stable_diffusion names."
        )
    samples = list(zip(embeddings.ids[batch.rows], batch.repeats, strict=True))
    noise = draw_noise(samples, seed=engine.seed, shape=embeddings.latents.shape[1:])
    return Inputs(
        latents=place(embeddings.latents),
        noise=torch.from_numpy(noise).to(engine.model.device),
        denoising=Denoising(engine.model, condition, engine.settings),
    )


def place_rows(array: np.ndarray, *, rows: np.ndarray, device: torch.device) -> Tensor:
    """Chosen rows of an array as a tensor."""
    return torch.from_numpy(array[rows]).to(device)


def bind_targets(batch: Batch, embeddings: Embeddings, engine: Engine, guided: Guided) -> Guide:
    """The guidance of one batch: images to one loss each."""
    targets = {
        name: place_rows(embeddings.features[name], rows=batch.rows, device=engine.model.device)
        for name in guided.function.targets
    }
    steps = choose_guided_steps(
        len(engine.schedule.steps), strength=guided.strength, which=engine.settings.guided_steps
    )
    loss = partial(guided.function, targets=targets)
    return Guide(loss=loss, scale=guided.scale, steps=steps)


@torch.no_grad()
def decode_images(model: LatentDiffusion, latents: Tensor) -> np.ndarray:
    """Latents (n, c, h, w) to images, uint8 (n, H, W, 3)."""
    images = model.decode(latents).mul(255).round().to(torch.uint8)
    return images.permute(0, 2, 3, 1).cpu().numpy()
