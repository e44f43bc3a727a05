"""Operations of one pass through each network of a reconstruction, and of a whole one."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from step_costs import count_operations
from torch import Tensor

PASSES_OF_A_STEP = (
    3  # the pair of empty caption and condition, and what self-attention guidance adds
)


@dataclass(frozen=True)
class Passes:
    """Operations for one sample; backward passes are those to the inputs alone.

    Attributes:
        denoise: latent to noise.
        decode: latent to image.
        view: image to the layers that guide.
        denoise_backward, decode_backward, view_backward: their gradients.
    """

    denoise: int
    denoise_backward: int
    decode: int
    decode_backward: int
    view: int
    view_backward: int

    def image(self, *, steps: int, guided_steps: int) -> int:
        """What a reconstruction needs: nothing is computed twice, and one latent is decoded."""
        gradient = self.denoise_backward + self.decode + self.decode_backward
        gradient += self.view + self.view_backward
        return steps * PASSES_OF_A_STEP * self.denoise + self.decode + guided_steps * gradient


def count_passes(
    *,
    denoise: Callable[[Tensor], Tensor],
    decode: Callable[[Tensor], Tensor],
    view: Callable[[Tensor], Tensor],
    latent: Tensor,
) -> Passes:
    """Runs each network forward and backward for a latent (1, c, h, w)."""
    with torch.no_grad():
        image = decode(latent)
    counts = [*count(denoise, latent), *count(decode, latent), *count(view, image)]
    return Passes(*counts)


def count(network: Callable[[Tensor], Tensor], inputs: Tensor) -> tuple[int, int]:
    """Operations of a pass, and of its gradient with respect to the inputs."""

    def forward() -> Tensor:
        return network(leaf)

    def both() -> None:
        torch.autograd.grad(forward().sum(), leaf)

    leaf = inputs.detach().requires_grad_()
    with torch.no_grad():
        alone = count_operations(forward)
    return alone, count_operations(both) - alone
