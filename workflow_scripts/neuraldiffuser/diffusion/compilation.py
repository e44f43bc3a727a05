"""The diffusion model's networks compiled for a GPU, in the sizes in which a job runs them."""

from __future__ import annotations

from functools import partial

import torch
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn

from neuraldiffuser.compilation import Answers, compile_checked
from neuraldiffuser.config.reconstruction import Sampling
from neuraldiffuser.diffusion.memory import BatchPlan, split
from neuraldiffuser.diffusion.models import LatentDiffusion
from neuraldiffuser.diffusion.sampler import (
    Denoising,
    Prediction,
    latent_gradient,
    predict_together,
)
from neuraldiffuser.diffusion.schedule import Step


def compile_networks(
    model: LatentDiffusion,
    plan: BatchPlan,
    settings: Sampling,
    *,
    step: Step,
    shape: tuple[int, ...],
) -> None:
    """Has denoiser and decoder compiled, unless that changes what they give.

    Each number of samples is compiled anew, so a plan's own are compared. The recorder of attention
    runs as it is, and so does what torch compiles wrongly.

    Args:
        model: on the device that it is compiled for.
        plan: what it will run.
        settings: the sampler's.
        step: any.
        shape: of one latent.
    """
    for network in model.compiled_parts:
        exclude_enlargements(network)
    answers = partial(respond, model, plan, settings, step=step, shape=shape)
    compile_checked(
        model.compiled_parts,
        answers,
        name="The diffusion model",
        dtype=model.dtype,
        dynamic=False,
    )


def exclude_enlargements(network: nn.Module) -> None:
    """Leaves out of compilation what gets a wrong gradient by it; see ``compilation``."""
    for module in network.modules():
        if isinstance(module, Upsample2D) and "forward" not in vars(module):
            module.forward = torch.compiler.disable(module.forward)


class HalfSquares:
    """A loss whose gradient with respect to images is the images; see sampler.Loss."""

    def __call__(self, images: Tensor) -> Tensor:
        """Half the sum of squares of each image."""
        return images.square().flatten(1).sum(dim=1) / 2

    def of(self, _rows: slice) -> HalfSquares:
        """The same: it has no targets."""
        return self


def respond(
    model: LatentDiffusion,
    plan: BatchPlan,
    settings: Sampling,
    *,
    step: Step,
    shape: tuple[int, ...],
) -> Answers:
    """Every pass of an unguided and a guided step, of random latents, in the parts of a plan.

    What comes out of one network enters another only along with its gradient: where self-attention
    guidance cuts off at a threshold, rounding would decide.
    """
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(plan.samples, *shape, generator=generator).to(model.device)
    condition = model.unconditional.expand(plan.samples, *model.unconditional.shape)
    denoising = Denoising(model, condition, settings, plan.parts)
    outputs, gradients = {}, {}
    with torch.no_grad():
        outputs["noise"] = side_by_side(predict_together(z, step, denoising))
        # As of the blurred latents.
        outputs["noise of half a pass"] = model.denoise(z, step.timestep, condition).noise
        images = [model.decode(z[part]) for part in split(len(z), plan.parts.decoded)]
        outputs["image"] = torch.cat(images)
    if plan.parts.guided:
        rows = split(len(z), plan.parts.guided)
        parts = [latent_gradient(z[r], step, denoising.of(r), HalfSquares()) for r in rows]
        outputs["noise of a guided step"] = torch.cat([side_by_side(each) for each, _ in parts])
        gradients["gradient"] = torch.cat([gradient for _, gradient in parts])
    return Answers(outputs, gradients)


def side_by_side(prediction: Prediction) -> Tensor:
    """Both kinds of noise of each sample, (n, 2 c, h, w)."""
    return torch.cat([prediction.e_u, prediction.e_c], dim=1)
