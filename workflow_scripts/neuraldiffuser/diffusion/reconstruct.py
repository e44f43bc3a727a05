"""Images from embeddings: batches of samples through the guided sampler and the decoder.

On a CPU every batch has `batch_size` samples, the last one repeated where there are fewer, and is
computed by one thread: images depend on no other sample, no shard and no number of threads, to the
last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from threading import Lock
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from neuraldiffuser import runtime
from neuraldiffuser.config.reconstruction import Sampling
from neuraldiffuser.diffusion.compilation import compile_networks
from neuraldiffuser.diffusion.embeddings import Embeddings
from neuraldiffuser.diffusion.gradients import find_broken
from neuraldiffuser.diffusion.guidance.base import Guidance
from neuraldiffuser.diffusion.memory import (
    WHOLE_BATCH,
    BatchPlan,
    Parts,
    run_with_reducing,
    split,
)
from neuraldiffuser.diffusion.models import LatentDiffusion
from neuraldiffuser.diffusion.noise import draw_noise
from neuraldiffuser.diffusion.planning import Probe, choose_plan
from neuraldiffuser.diffusion.sampler import Denoising, Guide, sample
from neuraldiffuser.diffusion.schedule import Schedule, Step, choose_guided_steps
from neuraldiffuser.errors import DataError
from neuraldiffuser.features.pipeline import kernels_that_repeat, map_ahead

Result = TypeVar("Result")

# ASSUME: compiling every form that a plan has takes minutes, and saves some tenths of a second on
# each sample (not measured): no shard of the usual size is worth it.
SAMPLES_WORTH_COMPILING = 4000


@dataclass(frozen=True)
class Guided:
    """A guidance function, scaled or a sum of scaled ones, and its strength eta."""

    function: Guidance
    strength: float


@dataclass(frozen=True)
class Batch:
    """Samples that are made together: for each, the row of its image and its repeat.

    Attributes:
        padding: how many of the last ones only fill the batch up.
    """

    rows: np.ndarray
    repeats: np.ndarray
    padding: int = 0

    @property
    def wanted(self) -> int:
        """How many samples count."""
        return len(self.rows) - self.padding

    def padded(self, size: int) -> Batch:
        """Of `size` samples: the last one stands in for those that are missing."""
        count = len(self.rows)
        places = np.minimum(np.arange(size), count - 1)
        return Batch(self.rows[places], self.repeats[places], padding=size - count)


class Tally:
    """A number that several threads add to."""

    def __init__(self, told: Callable[[int], object] = lambda _: None) -> None:
        """Takes what else is told of each addition, by one thread at a time."""
        self.total = 0
        self._told = told
        self._lock = Lock()

    def add(self, count: int) -> None:
        """Adds to the total."""
        with self._lock:
            self.total += count
            self._told(count)


@dataclass(frozen=True)
class Engine:
    """What all batches of a job share.

    Attributes:
        clipped: gradients of single samples and steps that were clipped because not finite, those
            of finished batches.
    """

    model: LatentDiffusion
    schedule: Schedule
    settings: Sampling
    seed: int
    clipped: Tally = field(default_factory=Tally)


def plan_batches(count: int, *, repeats: int, batch_size: int, start: int = 0) -> list[Batch]:
    """All samples from `start` on, image by image, in batches of at most `batch_size`."""
    rows = np.repeat(np.arange(count), repeats)[start:]
    numbers = np.tile(np.arange(repeats), count)[start:]
    return [Batch(rows[part], numbers[part]) for part in split(len(rows), batch_size)]


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

    Raises:
        DataError: embeddings are of another model, or something computed from them is not finite.
    """
    report = Tally(told=progress).add

    def make(batch: Batch, plan: BatchPlan, engine: Engine) -> np.ndarray:
        full = batch.padded(plan.samples)
        latents = sample_batch(full, embeddings, engine, guided, report, plan.parts)
        refuse_broken(latents, full, embeddings.ids)
        images = decode_in_parts(engine.model, latents, plan.parts.decoded)
        refuse_broken(images, full, embeddings.ids)
        return as_bytes(images)[: full.wanted]

    images = run_batches(make, embeddings, engine, guided, repeats=repeats)
    return images.reshape(len(embeddings.ids), repeats, *images.shape[1:])


# Makes one row for each wanted sample of a batch, with an engine of that batch's own.
Work = Callable[[Batch, BatchPlan, Engine], np.ndarray]


def run_batches(
    work: Work,
    embeddings: Embeddings,
    engine: Engine,
    guided: Guided | None,
    *,
    repeats: int,
) -> np.ndarray:
    """What `work` gives for every sample, in order: a batch to each thread of a CPU at a time."""
    images = len(embeddings.ids)
    count = images * repeats

    def run(plan: BatchPlan, start: int) -> Iterator[np.ndarray]:
        engine.model.recompute_decoder(plan.checkpointed)
        if engine.model.device.type != "cpu" and count >= SAMPLES_WORTH_COMPILING:
            first, shape = engine.schedule.steps[0], embeddings.latents.shape[1:]
            compile_networks(engine.model, plan, engine.settings, step=first, shape=shape)
        batches = plan_batches(images, repeats=repeats, batch_size=plan.samples, start=start)
        counted = partial(count_clipped, work, plan=plan, engine=engine)
        for rows, clipped in map_batches(counted, batches, engine.model.device):
            engine.clipped.add(clipped)
            yield rows

    with kernels_that_repeat():
        engine.model.prepare()
        plan = plan_work(embeddings, engine, guided, count=count)
        return run_with_reducing(run, plan, count=count)


def plan_work(
    embeddings: Embeddings, engine: Engine, guided: Guided | None, *, count: int
) -> BatchPlan:
    """Batches of the configured size on a CPU, of what fits into its memory on a GPU."""
    if engine.model.device.type == "cpu":
        parts = WHOLE_BATCH if guided else WHOLE_BATCH._replace(guided=0)
        return BatchPlan(engine.settings.batch_size, parts)
    return choose_plan(make_probe(embeddings, engine, guided), count=count)


def make_probe(embeddings: Embeddings, engine: Engine, guided: Guided | None) -> Probe:
    """Copies of the first image's sample, for measuring what a step takes."""

    def repeat(count: int) -> Batch:
        return Batch(np.zeros(count, dtype=int), np.zeros(count, dtype=int))

    def place(count: int) -> tuple[Tensor, Denoising]:
        inputs = place_batch(repeat(count), embeddings, engine)
        return inputs.noise, inputs.denoising

    def bind(count: int) -> BoundLoss:
        return bind_targets(repeat(count), embeddings, engine, guided).loss

    return Probe(engine.model, engine.schedule.steps[0], place, bind if guided else None)


def count_clipped(
    work: Work, batch: Batch, *, plan: BatchPlan, engine: Engine
) -> tuple[np.ndarray, int]:
    """A batch's rows, and how many gradients were clipped for them.

    Counted by itself: a batch that memory does not suffice for is computed again.
    """
    own = replace(engine, clipped=Tally())
    return work(batch, plan, own), own.clipped.total


def map_batches(
    work: Callable[[Batch], Result], batches: Iterable[Batch], device: torch.device
) -> Iterator[Result]:
    """Results in order; a GPU is given one batch after the other."""
    if device.type == "cpu":
        return map_ahead(work, batches, workers=runtime.execution().threads)
    return map(work, batches)


def sample_batch(
    batch: Batch,
    embeddings: Embeddings,
    engine: Engine,
    guided: Guided | None,
    progress: Callable[[int], None],
    parts: Parts = WHOLE_BATCH,
) -> Tensor:
    """Clean latents of one batch, float32 (n, c, h, w)."""
    inputs = place_batch(batch, embeddings, engine, parts)
    return sample(
        inputs.latents,
        inputs.noise,
        inputs.denoising,
        schedule=engine.schedule,
        guide=bind_targets(batch, embeddings, engine, guided) if guided else None,
        on_step=lambda _index, _z: progress(batch.wanted),
    )


@dataclass(frozen=True)
class Inputs:
    """A batch on the model's device: latents and noise (n, c, h, w), and its denoising."""

    latents: Tensor
    noise: Tensor
    denoising: Denoising


def place_batch(
    batch: Batch, embeddings: Embeddings, engine: Engine, parts: Parts = WHOLE_BATCH
) -> Inputs:
    """Puts a batch's embeddings and its noise on the model's device.

    Raises:
        DataError: the embeddings were decoded for another model.
    """
    refuse_misfits(embeddings, engine.model)
    place = partial(place_rows, rows=batch.rows, device=engine.model.device)
    condition = place(embeddings.texts)
    samples = list(zip(embeddings.ids[batch.rows], batch.repeats, strict=True))
    noise = draw_noise(samples, seed=engine.seed, shape=embeddings.latents.shape[1:])
    return Inputs(
        latents=place(embeddings.latents),
        noise=torch.from_numpy(noise).to(engine.model.device),
        denoising=Denoising(
            engine.model, condition, engine.settings, parts, partial(note_clipped, batch, engine)
        ),
    )


def refuse_misfits(embeddings: Embeddings, model: LatentDiffusion) -> None:
    """Raises DataError if latents or texts are not of the shapes that the networks take."""
    texts, states = embeddings.texts.shape[1:], tuple(model.unconditional.shape)
    if texts != states:
        raise DataError(
            f"Embeddings of clip_text have shape {texts}, but the text encoder gives {states};"
            " decode them for the model that models.stable_diffusion names."
        )
    unet = model.denoiser.unet.config
    latents, taken = embeddings.latents.shape[1:], (unet.in_channels, *2 * (unet.sample_size,))
    if latents != taken:
        raise DataError(
            f"Embeddings of vae_latent have shape {latents}, but the denoiser was trained on"
            f" {taken}; set targets.vae_latent.image_size and decode them for the model that"
            " models.stable_diffusion names."
        )


def note_clipped(batch: Batch, engine: Engine, broken: Tensor, step: Step) -> None:
    """Counts and logs clipped gradients, those of samples that only fill the batch left out."""
    count = int(broken[: batch.wanted].sum())
    engine.clipped.add(count)
    runtime.logger.warning(
        "Clipped the non-finite gradients of %d of %d samples at timestep %d.",
        count,
        batch.wanted,
        step.timestep,
    )


def place_rows(array: np.ndarray, *, rows: np.ndarray, device: torch.device) -> Tensor:
    """Chosen rows of an array as a tensor."""
    return torch.from_numpy(array[rows]).to(device)


@dataclass(frozen=True)
class BoundLoss:
    """A guidance function with the prepared targets of some samples; see sampler.Loss."""

    function: Guidance
    targets: Mapping[str, Tensor]

    def __call__(self, images: Tensor) -> Tensor:
        """Images (n, 3, h, w) to losses (n,)."""
        return self.function(images, self.targets)

    def of(self, rows: slice) -> BoundLoss:
        """The same with the targets of some of the samples."""
        return BoundLoss(self.function, {name: each[rows] for name, each in self.targets.items()})


@torch.no_grad()
def bind_targets(batch: Batch, embeddings: Embeddings, engine: Engine, guided: Guided) -> Guide:
    """The guidance of one batch: images to one loss each."""
    targets = {
        name: place_rows(embeddings.features[name], rows=batch.rows, device=engine.model.device)
        for name in guided.function.targets
    }
    steps = choose_guided_steps(
        len(engine.schedule.steps), strength=guided.strength, which=engine.settings.guided_steps
    )
    prepared = guided.function.prepare(targets)
    return Guide(loss=BoundLoss(guided.function, prepared), steps=steps)


@torch.no_grad()
def decode_in_parts(
    model: LatentDiffusion, latents: Tensor, together: int = WHOLE_BATCH.decoded
) -> Tensor:
    """Latents (n, c, h, w) to images (n, 3, H, W) in [0, 1], so many of them together."""
    return torch.cat([model.decode(latents[part]) for part in split(len(latents), together)])


def refuse_broken(values: Tensor, batch: Batch, ids: np.ndarray) -> None:
    """Raises DataError if any sample's latents or image (n, ...) are not finite."""
    broken = find_broken(values).nonzero().flatten().tolist()
    if broken:
        first = broken[0]
        raise DataError(
            f"The reconstruction of 73k image {ids[batch.rows[first]]}, repeat"
            f" {batch.repeats[first]}, is not finite ({len(broken)} of {len(values)} in its batch);"
            " set reconstruction.precision to float32 or lower the guidance scale."
        )


def as_bytes(images: Tensor) -> np.ndarray:
    """Images (n, 3, h, w) in [0, 1] to uint8 (n, h, w, 3)."""
    return images.mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
