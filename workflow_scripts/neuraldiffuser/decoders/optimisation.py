"""AdamW, its decay groups, the one-cycle schedule, and the precision of arithmetic.

Registries ``DECAY_GROUPS`` (what decays) and ``PRECISIONS``. Source of the released settings:
HaoyyLi/NeuralDiffuser, src/train_c.py.
"""

from collections.abc import Callable

import torch
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR

from neuraldiffuser.config.decoder import Optimiser

PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": None}


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The precision of forward passes; weights and losses stay float32."""
    dtype = PRECISIONS[precision]
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)


def make_scaler(device: torch.device, precision: str) -> torch.amp.GradScaler:
    """Scales losses up and gradients down where float16 would flush them to zero; else idle.

    A step whose gradients overflow is left out and the scale halved, without the host waiting.
    """
    return torch.amp.GradScaler(device.type, enabled=precision == "fp16")


def released_groups(model: nn.Module) -> tuple[list[str], list[str]]:
    """Names with and without decay: only biases outside the voxel encoders are exempt."""
    return split_names(
        model, lambda name, _: name.startswith("voxel_encoder.") or "bias" not in name
    )


def matrix_groups(model: nn.Module) -> tuple[list[str], list[str]]:
    """Names with and without decay: only matrices and kernels decay."""
    return split_names(model, lambda _, parameter: parameter.ndim > 1)


DECAY_GROUPS: dict[str, Callable[[nn.Module], tuple[list[str], list[str]]]] = {
    "released": released_groups,
    "matrices": matrix_groups,
}


def split_names(
    model: nn.Module, decays: Callable[[str, nn.Parameter], bool]
) -> tuple[list[str], list[str]]:
    """Names of the parameters that decay and of those that do not."""
    chosen = {name: decays(name, parameter) for name, parameter in model.named_parameters()}
    return [name for name in chosen if chosen[name]], [n for n in chosen if not chosen[n]]


def make_optimiser(model: nn.Module, settings: Optimiser) -> torch.optim.AdamW:
    """Fused AdamW with decay for the voxel encoders, for the rest, and without."""
    parameters = dict(model.named_parameters())
    decaying, exempt = DECAY_GROUPS[settings.decay_groups](model)
    voxel = [name for name in decaying if name.startswith("voxel_encoder.")]
    rest = [name for name in decaying if not name.startswith("voxel_encoder.")]
    decays = (settings.voxel_weight_decay, settings.weight_decay, 0.0)
    groups = [
        {"params": [parameters[name] for name in names], "weight_decay": decay}
        for names, decay in zip((voxel, rest, exempt), decays, strict=True)
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, fused=True)


def make_schedule(
    optimiser: torch.optim.Optimizer, settings: Optimiser, *, steps: int
) -> OneCycleLR:
    """One cycle of rate and momentum, stepped every iteration."""
    return OneCycleLR(
        optimiser,
        max_lr=settings.learning_rate,
        total_steps=steps,
        # torch divides by the length of the warm-up less one step, which must not be zero
        pct_start=max(settings.warmup_fraction, min(1.5 / steps, 0.75)),
        final_div_factor=settings.final_division,
    )
