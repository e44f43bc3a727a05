"""Compiled networks, where their gradients are those of the networks as they are written.

torch 2.13 compiles some backward passes wrongly without a word (see ``LowLevelDecoder``), so a
step's gradients are compared before the first one counts.
"""

import torch

from neuraldiffuser import runtime
from neuraldiffuser.decoders.training import Run, TrainingStep, devices_of

TOLERANCE = 0.1  # of a gradient's norm: half precision rounds differently when compiled
NEGLIGIBLE = 1e-3  # of the largest gradient's norm


def compile_networks(run: Run) -> None:
    """Has the parts that every step runs compiled, unless that changes their gradients.

    A part that cannot be compiled runs as it is. Dropout draws the same numbers either way, so
    results agree but for rounding.
    """
    parts = [getattr(run.model, name) for name in run.model.compiled_parts]
    if not parts:
        return
    from torch._inductor import config  # takes a second

    torch._dynamo.config.suppress_errors = True
    config.fallback_random = True
    written = gradient_norms(run)
    for part in parts:
        part.compile()
    wrong = find_differences(written, gradient_norms(run))
    if wrong:
        for part in parts:
            part._compiled_call_impl = None  # torch has no public way back
        runtime.logger.warning(
            "%s: compiled networks have other gradients (%s and %d others); they run as written",
            run.name,
            wrong[0],
            len(wrong) - 1,
        )


def gradient_norms(run: Run) -> dict[str, float]:
    """Norm of each trained weight's gradient at the first step, which leaves no trace."""
    run.model.train()
    with torch.random.fork_rng(devices_of(run)):
        TrainingStep(run)(0)["loss"].backward()
    trained = {
        name: weight for name, weight in run.model.named_parameters() if weight.requires_grad
    }
    norms = torch.stack([weight.grad.float().norm() for weight in trained.values()]).tolist()
    run.model.zero_grad(set_to_none=True)
    return dict(zip(trained, norms, strict=True))


def find_differences(first: dict[str, float], second: dict[str, float]) -> list[str]:
    """Names whose norms differ by more than rounding explains; NaN differs from everything."""
    negligible = NEGLIGIBLE * max(first.values())
    return [
        name
        for name, norm in first.items()
        if not abs(norm - second[name]) <= TOLERANCE * norm + negligible
    ]
