"""A decoder's networks compiled, where that leaves the gradients of its training as they are."""

from functools import partial

import torch

from neuraldiffuser.compilation import Answers, compile_checked
from neuraldiffuser.decoders.training import Run, TrainingStep, devices_of

NEGLIGIBLE = 1e-3  # of the largest gradient's norm


def compile_networks(run: Run) -> None:
    """Has the parts that every step runs compiled, unless that changes their gradients.

    Dropout draws the same numbers either way, so results agree but for rounding.
    """
    parts = [getattr(run.model, name) for name in run.model.compiled_parts]
    compile_checked(parts, partial(gradient_norms, run), name=run.name, negligible=NEGLIGIBLE)


def gradient_norms(run: Run) -> Answers:
    """Norm of each trained weight's gradient at the first step, which leaves no trace."""
    run.model.train()
    try:
        with torch.random.fork_rng(devices_of(run)):
            TrainingStep(run)(0)["loss"].backward()
        norms = {
            f"gradient of {name}": weight.grad.float().norm()
            for name, weight in run.model.named_parameters()
            if weight.requires_grad
        }
        return Answers(outputs={}, gradients=norms)
    finally:
        run.model.zero_grad(set_to_none=True)
