"""How good the miniature's models are, on scenes that none of them was trained on.

Pictures are uint8 (n, h, w, 3); latents are float32 (n, 4, 16, 16), scaled to unit
deviation; conditions are float32 (n, tokens, width).
"""

from __future__ import annotations

import platform
from dataclasses import asdict
from pathlib import Path

import neuraldiffuser.torchvision_schemas  # noqa: F401

import numpy as np
import open_clip
import torch
import torch.nn.functional as functional
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from PIL import Image

from neuraldiffuser.mini import training
from neuraldiffuser.mini.training import Budget, Curve

TIMESTEPS = tuple(range(25, 1000, 50))  # at which the denoiser is judged
STEPS = 50
STRENGTH = 0.75  # of img2img: the last 37 of 50 steps
GUIDANCE_SCALE = 4.0


# --- measures --------------------------------------------------------------------------


def peak_signal_to_noise(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """In decibels, one number per picture; higher is closer."""
    error = (first.astype(np.float64) - second) / 255
    return -10 * np.log10(np.maximum((error**2).mean(axis=(1, 2, 3)), 1e-10))


def pixel_correlation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Pearson correlation over all pixels and channels, one number per picture."""
    flat = [pictures.reshape(len(pictures), -1).astype(np.float64) for pictures in (first, second)]
    centred = [rows - rows.mean(axis=1, keepdims=True) for rows in flat]
    first_unit, second_unit = (
        rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in centred
    )
    return (first_unit * second_unit).sum(axis=1)


@torch.no_grad()
def decode(autoencoder: AutoencoderKL, latents: torch.Tensor, *, batch: int = 50) -> np.ndarray:
    """Scaled latents as pictures."""
    parts = [
        autoencoder.decode(part / autoencoder.config.scaling_factor).sample
        for part in latents.split(batch)
    ]
    pixels = (torch.cat(parts).clamp(-1, 1) + 1) * 127.5
    return pixels.round().byte().permute(0, 2, 3, 1).numpy()


def encode(autoencoder: AutoencoderKL, images: np.ndarray) -> torch.Tensor:
    """Pictures as scaled latents."""
    latents = torch.from_numpy(training.encode_latents(autoencoder, images)).float()
    return latents * autoencoder.config.scaling_factor


def autoencoder_quality(autoencoder: AutoencoderKL, images: np.ndarray) -> dict[str, float]:
    """Round trip of pictures through the latents."""
    returned = decode(autoencoder, encode(autoencoder, images))
    return {
        "peak_signal_to_noise_db": float(peak_signal_to_noise(images, returned).mean()),
        "pixel_correlation": float(pixel_correlation(images, returned).mean()),
    }


def share_retrieved(similarity: torch.Tensor, *, among: int) -> float:
    """How often the own caption is the most similar of `among`; similarity is (n, n)."""
    first_of_groups = range(0, len(similarity) - among + 1, among)
    blocks = [similarity[k : k + among, k : k + among] for k in first_of_groups]
    hits = [(block.argmax(dim=1) == torch.arange(among)).float().mean() for block in blocks]
    return float(torch.stack(hits).mean())


@torch.no_grad()
def clip_quality(
    clip: open_clip.CLIP, *, images: np.ndarray, tokens: torch.Tensor
) -> dict[str, float]:
    """Retrieval of the first caption by the picture among 100 and among all."""
    pictures = clip.encode_image(training.for_clip(images), normalize=True)
    words = clip.encode_text(tokens[:, 0], normalize=True)
    similarity = pictures @ words.T
    return {
        "top_1_among_100": share_retrieved(similarity, among=100),
        f"top_1_among_{len(images)}": share_retrieved(similarity, among=len(images)),
    }


@torch.no_grad()
def denoiser_loss(
    denoiser: UNet2DConditionModel,
    *,
    latents: torch.Tensor,
    conditions: torch.Tensor,
    scheduler: DDIMScheduler,
    seed: int = 0,
) -> float:
    """Mean squared error of the predicted noise over `TIMESTEPS`, with fixed noise."""
    generator = torch.Generator().manual_seed(seed)
    losses = []
    for timestep in TIMESTEPS:
        noise = torch.randn(latents.shape, generator=generator)
        times = torch.full((len(latents),), timestep)
        noisy = scheduler.add_noise(latents, noise, times)
        predicted = denoiser(noisy, times, conditions).sample
        losses.append(functional.mse_loss(predicted, noise))
    return float(torch.stack(losses).mean())


# --- samples ---------------------------------------------------------------------------


@torch.no_grad()
def sample(
    denoiser: UNet2DConditionModel,
    *,
    scheduler: DDIMScheduler,
    conditions: torch.Tensor,
    empty: torch.Tensor,
    start: torch.Tensor | None = None,
    guidance_scale: float = GUIDANCE_SCALE,
    seed: int = 0,
) -> torch.Tensor:
    """DDIM from noise, or from `start` at `STRENGTH`, with classifier-free guidance.

    conditions: (n, tokens, width); empty: (tokens, width), the empty caption's;
    start: scaled latents (n, 4, 16, 16). Returns scaled latents of that shape.
    """
    count = len(conditions)
    scheduler.set_timesteps(STEPS)
    timesteps = (
        scheduler.timesteps if start is None else scheduler.timesteps[-int(STRENGTH * STEPS) :]
    )
    shape = (count, denoiser.config.in_channels, *2 * (denoiser.config.sample_size,))
    latents = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    if start is not None:
        latents = scheduler.add_noise(start, latents, timesteps[:1].repeat(count))
    both = torch.cat([empty.expand_as(conditions), conditions])
    for timestep in timesteps:
        without, told = denoiser(torch.cat([latents, latents]), timestep, both).sample.chunk(2)
        noise = without + guidance_scale * (told - without)
        latents = scheduler.step(noise, timestep, latents).prev_sample
    return latents


def contact_sheet(rows: list[np.ndarray], *, enlarge: int = 2) -> np.ndarray:
    """Rows of pictures, each (n, h, w, 3), as one picture, enlarged by repetition."""
    lines = [np.concatenate(list(row), axis=1) for row in rows]
    sheet = np.concatenate(lines, axis=0)
    return sheet.repeat(enlarge, axis=0).repeat(enlarge, axis=1)


def sample_sheet(
    *,
    denoiser: UNet2DConditionModel,
    autoencoder: AutoencoderKL,
    scheduler: DDIMScheduler,
    images: np.ndarray,
    conditions: torch.Tensor,
    empty: torch.Tensor,
) -> np.ndarray:
    """Four rows: scenes, autoencoder's round trip, from latents and captions, from captions."""
    latents = encode(autoencoder, images)
    told = {"scheduler": scheduler, "conditions": conditions, "empty": empty}
    rows = [
        images,
        decode(autoencoder, latents),
        decode(autoencoder, sample(denoiser, start=latents, **told)),
        decode(autoencoder, sample(denoiser, **told)),
    ]
    return contact_sheet(rows)


def save_sheet(sheet: np.ndarray, path_to_sheet: Path) -> None:
    """A picture as PNG."""
    Image.fromarray(sheet).save(path_to_sheet, optimize=True)


# --- the log ---------------------------------------------------------------------------


def processor() -> str:
    """The processor's name as the system tells it."""
    path_to_description = Path("/proc/cpuinfo")
    if not path_to_description.exists():
        return platform.processor()
    lines = path_to_description.read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def record(
    *,
    seed: int,
    training_scenes: int,
    budget: Budget,
    curve: Curve,
    quality: dict[str, float],
    margins: dict[str, float],
) -> dict:
    """What the training log tells of one model.

    margins: by how much a rerun's quality may differ from `quality` and still be the same.
    """
    return {
        "device": "cpu",
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "seed": seed,
        "training_scenes": training_scenes,
        "budget": asdict(budget),
        "steps_done": curve.steps[-1],
        "seconds": round(curve.seconds),
        "curve": {"steps": curve.steps, "losses": [round(loss, 5) for loss in curve.losses]},
        "quality": {name: round(value, 4) for name, value in quality.items()},
        "margins": margins,
    }
