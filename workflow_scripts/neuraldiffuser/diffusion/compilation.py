"""The diffusion model's networks compiled for a GPU, in the sizes in which a job runs them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn

from neuraldiffuser.compilation import compile_checked
from neuraldiffuser.diffusion.gradients import pull_back
from neuraldiffuser.diffusion.memory import BatchPlan
from neuraldiffuser.diffusion.models import LatentDiffusion

TIMESTEP = 500  # any


def compile_networks(
    model: LatentDiffusion, plan: BatchPlan, *, shape: tuple[int, ...], guided: bool
) -> None:
    """Has denoiser and decoder compiled, unless that changes what they give.

    Each number of samples is compiled anew, so a plan's own are compared. The recorder of attention
    runs as it is, and so does what torch compiles wrongly.

    Args:
        model: on the device that it is compiled for.
        plan: what it will run.
        shape: of one latent.
        guided: whether gradients are needed.
    """
    for network in model.compiled_parts:
        exclude_enlargements(network)
    answers = partial(respond, model, plan, shape=shape, guided=guided)
    compile_checked(model.compiled_parts, answers, name="The diffusion model", dynamic=False)


def exclude_enlargements(network: nn.Module) -> None:
    """Leaves out of compilation what gets a wrong gradient by it; see ``compilation``."""
    for module in network.modules():
        if isinstance(module, Upsample2D) and "forward" not in vars(module):
            module.forward = torch.compiler.disable(module.forward)


def respond(
    model: LatentDiffusion, plan: BatchPlan, *, shape: tuple[int, ...], guided: bool
) -> dict[str, Tensor]:
    """Noise and images of random latents and, where guided, gradients through both networks."""
    generator = torch.Generator().manual_seed(0)

    def draw(count: int) -> Tensor:
        return torch.randn(count, *shape, generator=generator).to(model.device)

    def denoise(z: Tensor) -> Tensor:
        condition = model.unconditional.expand(len(z), *model.unconditional.shape)
        return model.denoise(z, TIMESTEP, condition).noise

    held, decoded = (min(part, plan.samples) for part in plan.parts)
    with torch.no_grad():
        found = {"noise": denoise(draw(2 * plan.samples)), "image": model.decode(draw(decoded))}
    if guided:
        found["gradient of noise"] = slope(denoise, draw(held))
        found["gradient of images"] = slope(model.decode, draw(decoded))
    return found


@torch.enable_grad()
def slope(network: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """Gradient of half the sum of squares of what a network gives for z."""
    z.requires_grad_()
    outputs = network(z)
    return pull_back(outputs.detach(), outputs, z)
