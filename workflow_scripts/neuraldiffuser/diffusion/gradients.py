"""Gradients of single samples: kept within half precision's range, finite or dealt with by name."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from neuraldiffuser.diffusion.schedule import Step
from neuraldiffuser.errors import DataError

# float32 holds the powers of two with these exponents, as BIAS + exponent above 23 bits of zeros.
LARGEST_EXPONENT, BIAS, FRACTION_BITS = 126, 127, 23


def pull_back(gradient: Tensor, outputs: Tensor, inputs: Tensor) -> Tensor:
    """The gradient with respect to `inputs` of what has `gradient` with respect to `outputs`.

    The backward pass is linear in each sample's gradient. On the way each is multiplied by a power
    of two that brings it near one, and divided by it in the end: both are exact, and a network in
    half precision neither flushes it to zero nor overflows.

    Args:
        gradient: (n, ...), of the shape of `outputs`.
        outputs: computed from `inputs`, each sample from its own.
        inputs: a leaf that requires a gradient, (n, ...).

    Returns:
        The gradient, of the shape of `inputs`.
    """
    scaled, exponent = scale_to_unit(gradient)
    (pulled,) = torch.autograd.grad(outputs, inputs, scaled)
    return shift(pulled, exponent)


def scale_to_unit(gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Each sample's gradient times 2^-k, so that its largest magnitude is in [0.5, 1), and k (n,).

    A gradient that is zero or not finite stays as it is, with k = 0.
    """
    largest = gradient.flatten(1).abs().amax(dim=1)
    exponent = torch.where(largest.isfinite(), torch.frexp(largest).exponent, 0)
    exponent = exponent.clamp(-LARGEST_EXPONENT, LARGEST_EXPONENT)
    return shift(gradient, -exponent), exponent


def shift(gradient: Tensor, exponent: Tensor) -> Tensor:
    """Each sample's gradient (n, ...) times 2^exponent, int32 (n,)."""
    # Written bit by bit: torch.ldexp takes a power, which not every device computes exactly.
    power = ((exponent + BIAS) << FRACTION_BITS).view(torch.float32)
    return gradient * power.reshape(-1, *[1] * (gradient.ndim - 1))


# --- gradients that are not finite ----------------------------------------------------------

# Told which samples' gradients were clipped, bool (n,), and in which step.
OnClipped = Callable[[Tensor, Step], None]


def find_broken(gradient: Tensor) -> Tensor:
    """Which samples' gradients hold a NaN or an infinity, bool (n,)."""
    return ~gradient.isfinite().flatten(1).all(dim=1)


def stop(gradient: Tensor, step: Step, _on_clipped: OnClipped) -> Tensor:
    """The gradient; raises DataError if any sample's is not finite."""
    broken = int(find_broken(gradient).sum())
    if broken:
        raise DataError(
            f"The guidance has non-finite gradients for {broken} of {len(gradient)} samples at"
            f" timestep {step.timestep}; set reconstruction.precision to float32 or lower the"
            " guidance scale."
        )
    return gradient


def clip(gradient: Tensor, step: Step, on_clipped: OnClipped) -> Tensor:
    """Infinities become the sample's largest finite magnitude, what is not a number zero."""
    broken = find_broken(gradient)
    if not broken.any():
        return gradient
    on_clipped(broken, step)
    finite = gradient.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
    limit = finite.abs().flatten(1).amax(dim=1).reshape(-1, *[1] * (gradient.ndim - 1))
    return gradient.nan_to_num(nan=0.0).clamp(-limit, limit)


NON_FINITE: dict[str, Callable[[Tensor, Step, OnClipped], Tensor]] = {
    "stop": stop,
    "clip": clip,
}
