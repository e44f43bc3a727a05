"""Compiled networks, used only where they give what the networks give as they are written.

torch 2.13 compiles some backward passes wrongly without a word: a nearest-neighbour enlargement
behind a residual block sends gradients of zero to everything before it. So both are run once, and
compared, before anything counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple
from weakref import WeakSet

import torch
import torch._dynamo
from torch import Tensor, nn

from neuraldiffuser import runtime

# Shares of a sample's norm: half precision rounds differently when compiled. A backward pass rounds
# more often than the forward pass before it.
OUTPUT_TOLERANCE = 1e-2
GRADIENT_TOLERANCE = 0.1
# bfloat16 has a spacing of nearly OUTPUT_TOLERANCE.
TOLERATED_SPACINGS = 10
# Sizes, with and without gradients, in which one piece of code is compiled before it is given up.
# torch's own limit of 8 is passed by blocks that several places of a network share.
COMPILED_FORMS = 64

SHOWN = 3  # names in the log

_refused: WeakSet[nn.Module] = WeakSet()


class Answers(NamedTuple):
    """What a model gives, by name: tensors (n, ...) of n samples, or single numbers."""

    outputs: Mapping[str, Tensor]
    gradients: Mapping[str, Tensor]


def compile_checked(
    parts: Iterable[nn.Module],
    respond: Callable[[], Answers],
    *,
    name: str,
    dtype: torch.dtype = torch.float32,
    negligible: float = 0.0,
    **options: bool,
) -> None:
    """Has parts of a model compiled, unless that changes what the model gives.

    What cannot be compiled runs as it is written. Random numbers are the same either way. What is
    compiled already is compared again, what was refused is not.

    Args:
        parts: modules of the model.
        respond: runs the model from equal inputs and gives what shall agree, sample by sample.
        name: the model's, for the log.
        dtype: that the model computes in.
        negligible: share of the largest gradient's norm that a difference may have in any case.
        options: of ``torch.compile``.
    """
    parts = [part for part in parts if part not in _refused]
    if not parts:
        return
    from torch._inductor import config  # takes a second

    torch._dynamo.config.suppress_errors = True
    torch._dynamo.config.recompile_limit = COMPILED_FORMS
    config.fallback_random = True
    with as_written(parts):
        written = respond()
    for part in parts:
        if not is_compiled(part):
            part.compile(**options)
    objection = find_objection(written, respond, dtype, negligible)
    if objection:
        _refused.update(parts)
        for part in parts:
            part._compiled_call_impl = None  # torch has no public way back
        runtime.logger.warning("%s runs as written: %s", name, objection)
    runtime.record(compiled=not objection)


def is_compiled(part: nn.Module) -> bool:
    """Whether a part of a model runs compiled."""
    return part._compiled_call_impl is not None


@contextmanager
def as_written(parts: Iterable[nn.Module]) -> Iterator[None]:
    """Has parts run as they are written for a while."""
    compiled = {part: part._compiled_call_impl for part in parts}
    for part in compiled:
        part._compiled_call_impl = None
    try:
        yield
    finally:
        for part, call in compiled.items():
            part._compiled_call_impl = call


def find_objection(
    written: Answers, respond: Callable[[], Answers], dtype: torch.dtype, negligible: float
) -> str:
    """Why compiled parts are not to be used; nothing where they are."""
    tolerance = max(OUTPUT_TOLERANCE, TOLERATED_SPACINGS * torch.finfo(dtype).eps)
    try:
        compiled = respond()
        wrong = find_differences(written.outputs, compiled.outputs, tolerance)
        wrong += find_differences(
            written.gradients, compiled.gradients, GRADIENT_TOLERANCE, negligible
        )
    except Exception as error:  # a compiler raises what it likes, and late
        return f"compiling fails with {type(error).__name__}: {error}"
    return f"compiled, it gives another {', another '.join(wrong[:SHOWN])}" if wrong else ""


def find_differences(
    first: Mapping[str, Tensor],
    second: Mapping[str, Tensor],
    tolerance: float,
    negligible: float = 0.0,
) -> list[str]:
    """Names under which any sample differs by more than rounding explains; NaN differs from all."""
    norms = {name: sample_norms(one) for name, one in first.items()}
    floor = negligible * max((float(each.max()) for each in norms.values()), default=0.0)
    return [
        name
        for name, norm in norms.items()
        if not (sample_norms(first[name] - second[name]) <= tolerance * norm + floor).all()
    ]


def sample_norms(values: Tensor) -> Tensor:
    """Norm of each sample of (n, ...), (n,); of a single number its magnitude."""
    return values.float().reshape(*values.shape[:1], -1).norm(dim=-1)
