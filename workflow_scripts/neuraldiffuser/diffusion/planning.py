"""How many samples a GPU takes at once, measured on copies of a job's first sample."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from neuraldiffuser import runtime
from neuraldiffuser.compilation import as_written
from neuraldiffuser.diffusion.gradients import pull_back
from neuraldiffuser.diffusion.memory import (
    BatchPlan,
    Peaks,
    free_bytes,
    measure_peak,
    plan_batches_for,
)
from neuraldiffuser.diffusion.models import LatentDiffusion
from neuraldiffuser.diffusion.sampler import (
    Denoising,
    Loss,
    decoded_gradient,
    estimate,
    unguided_noise,
)
from neuraldiffuser.diffusion.schedule import Step


@dataclass(frozen=True)
class Probe:
    """What stages of a step are measured with.

    Attributes:
        model: on a GPU.
        step: any.
        place: gives latents (n, c, h, w) and denoising of n samples.
        bind: gives the loss of n samples; None without guidance.
    """

    model: LatentDiffusion
    step: Step
    place: Callable[[int], tuple[Tensor, Denoising]]
    bind: Callable[[int], Loss] | None


def choose_plan(probe: Probe, *, count: int) -> BatchPlan:
    """The batches of `count` samples that fit into the memory of a GPU."""
    limit = runtime.execution().gpu_memory_gb
    with as_written(probe.model.compiled_parts):  # for few samples nothing is compiled anew
        peaks = measure_peaks(probe)
        plan = plan_batches_for(peaks, free=free_bytes(limit_gib=limit), count=count)
    runtime.logger.info("%s", plan)
    return plan


def measure_peaks(probe: Probe) -> Peaks:
    """What stages of a step take, each measured when it is asked for."""

    def denoise(count: int) -> None:
        z, denoising = probe.place(count)
        unguided_noise(z, probe.step, denoising)

    def hold(count: int) -> None:
        z, denoising = probe.place(count)
        _, z_hat = estimate(z.requires_grad_(), probe.step, denoising)
        pull_back(torch.ones_like(z_hat), z_hat, z)

    def decode(count: int) -> None:
        probe.model.recompute_decoder(False)
        pass_decoder(probe, count)

    def recompute(count: int) -> None:
        probe.model.recompute_decoder(True)
        pass_decoder(probe, count)

    stages = (denoise, hold, decode, recompute) if probe.bind else (denoise, None, decode, None)
    return Peaks(*(stage and measure_peak(stage) for stage in stages))


def pass_decoder(probe: Probe, count: int) -> None:
    """Decodes samples, there and back where they are guided."""
    z, _ = probe.place(count)
    if probe.bind:
        decoded_gradient(z, probe.model, probe.bind(count))
        return
    with torch.no_grad():
        probe.model.decode(z)
