"""How many samples are computed together: by configuration on a CPU, by free memory on a GPU.

On a GPU the memory that one and two samples take is measured, stage by stage, and lies on a line.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch

from neuraldiffuser import runtime
from neuraldiffuser.errors import MemoryExhaustedError

GIB = 1 << 30
# Of the memory that is free, what may be planned for: allocators cannot use every gap.
PLANNED_SHARE = 0.9


class Parts(NamedTuple):
    """How many samples of a batch are held at once in the denoiser's graph and the decoder's.

    Without guidance there is no graph of the denoiser: `guided` is 0.
    """

    guided: int
    decoded: int


WHOLE_BATCH = Parts(sys.maxsize, sys.maxsize)
# ASSUME: beyond these sizes a pass of Stable Diffusion v1.4 is no faster per sample (not measured).
LARGEST_BATCH = 32
LARGEST_PARTS = Parts(guided=16, decoded=4)


def split(count: int, size: int) -> list[slice]:
    """Consecutive parts of `count` rows, `size` rows each but the last."""
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


@dataclass(frozen=True)
class BatchPlan:
    """How many samples take a step together, in which parts, and whether the decoder recomputes.

    Attributes:
        samples: of a batch.
        parts: of a batch while its gradient is taken; `decoded` also while images are decoded.
        checkpointed: whether the decoder's activations are computed twice rather than kept.
    """

    samples: int
    parts: Parts = WHOLE_BATCH
    checkpointed: bool = False

    def as_dict(self) -> dict[str, int | bool]:
        """Plain values for a file."""
        guided, decoded = (min(part, self.samples) for part in self.parts)
        return {
            "samples": self.samples,
            "guided": guided,
            "decoded": decoded,
            "checkpointed": self.checkpointed,
        }

    def __str__(self) -> str:
        """In words, for the log."""
        plan = self.as_dict()
        guided = f", {plan['guided']} guided" if plan["guided"] else ""
        twice = " with activations computed twice" if self.checkpointed else ""
        return f"{plan['samples']} samples at a time{guided}, {plan['decoded']} decoded{twice}"

    def reduced(self) -> BatchPlan:
        """What takes less memory at the least cost in time; itself where nothing is left.

        In this order: fewer samples in the decoder's graph, which takes most; fewer in the
        denoiser's; the decoder's activations computed twice; fewer samples of a batch.
        """
        guided, decoded = (min(part, self.samples) for part in self.parts)
        if decoded > 1:
            return replace(self, parts=Parts(guided, decoded // 2))
        if guided > 1:
            return replace(self, parts=Parts(guided // 2, decoded))
        if guided and not self.checkpointed:
            return replace(self, checkpointed=True)
        return replace(self, samples=max(self.samples // 2, 1))


# --- planning -------------------------------------------------------------------------------


class Line(NamedTuple):
    """Bytes that n samples take: fixed + n x each."""

    fixed: float
    each: float

    def count(self, free: float) -> int:
        """How many samples fit into `free` bytes."""
        return int(max(free - self.fixed, 0) // max(self.each, 1))

    def at(self, samples: int) -> float:
        """Bytes of that many samples."""
        return self.fixed + samples * self.each


def draw_line(peak: Callable[[int], int]) -> Line:
    """The line through what one and two samples take.

    Two may take hardly more than one, or less, where other kernels are faster for them. What one
    takes says nothing of many then, so that each takes at least half of what one did.
    """
    one, two = peak(1), peak(2)
    each = max(two - one, one / 2)
    return Line(fixed=one - each, each=each)


@dataclass(frozen=True)
class Peaks:
    """Bytes that stages of a step take at most beyond what was taken before, by sample count.

    Attributes:
        denoise: the predictions of an unguided step.
        hold: the denoiser's graph, forward and backward; None without guidance.
        decode: the decoder's graph and the guidance function; without guidance, decoding alone.
        recompute: the same with the decoder's activations computed twice; None without guidance.
    """

    denoise: Callable[[int], int]
    hold: Callable[[int], int] | None
    decode: Callable[[int], int]
    recompute: Callable[[int], int] | None


def plan_batches_for(peaks: Peaks, *, free: float, count: int) -> BatchPlan:
    """The largest batches of `count` samples that fit into `free` bytes and pay.

    The denoiser's parts are chosen first: a decode of 512 pixels fills a GPU with one sample. One
    sample at least is planned for; whether it fits shows when it is computed.
    """
    samples = even_out(count, at_least_one(draw_line(peaks.denoise).count(free), LARGEST_BATCH))
    decode = draw_line(peaks.decode)
    if not peaks.hold:
        return BatchPlan(samples, Parts(0, at_least_one(decode.count(free), LARGEST_PARTS.decoded)))
    hold, checkpointed = draw_line(peaks.hold), False
    if hold.at(1) + decode.at(1) > free:
        decode, checkpointed = draw_line(peaks.recompute), True
    fitting = at_least_one(hold.count(free - decode.at(1)), LARGEST_PARTS.guided)
    guided = even_out(samples, fitting)
    decoded = at_least_one(decode.count(free - hold.at(guided)), LARGEST_PARTS.decoded)
    return BatchPlan(samples, Parts(guided, decoded), checkpointed)


def at_least_one(fitting: int, largest: int) -> int:
    """What fits, but no more than pays, and no fewer than one."""
    return max(min(fitting, largest), 1)


def even_out(count: int, largest: int) -> int:
    """The smallest part with which `count` takes no more parts than with parts of `largest`."""
    return -(-count // -(-count // largest))


def free_bytes(*, limit_gib: float) -> float:
    """Bytes of the current GPU's memory that may be planned for.

    Args:
        limit_gib: most GiB that this process shall take, weights included; 0 for all there is.
    """
    unused, total = torch.cuda.mem_get_info()
    reserved, allocated = torch.cuda.memory_reserved(), torch.cuda.memory_allocated()
    limit = limit_gib * GIB if limit_gib else total
    return PLANNED_SHARE * min(unused + reserved, limit) - allocated


def measure_peak(work: Callable[[int], object]) -> Callable[[int], int]:
    """How many bytes of GPU memory `work` of a number of samples takes at most, when it is run.

    Work that does not fit takes all the memory there is: the largest number that says so.
    """

    def measure(samples: int) -> int:
        try:
            work(samples)  # chooses its kernels, which takes memory of its own
            before = torch.cuda.memory_allocated()
            torch.cuda.reset_peak_memory_stats()
            work(samples)
            return torch.cuda.max_memory_allocated() - before
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        release_memory()
        return torch.cuda.mem_get_info()[1]

    return measure


# --- running out of it ----------------------------------------------------------------------

EXHAUSTED = ("out of memory", "can't allocate memory", "not enough memory", "ALLOC_FAILED")


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an error of torch says that memory is exhausted, on a GPU or on the host."""
    return any(words in str(error) for words in EXHAUSTED)


def run_with_reducing(
    work: Callable[[BatchPlan, int], Iterable[np.ndarray]], plan: BatchPlan, *, count: int
) -> np.ndarray:
    """The results of `count` samples, under a plan that is reduced whenever memory is exhausted.

    Args:
        work: gives the results of all samples from a number on, batch by batch in their order,
            one row each, under a plan.
        plan: what is tried first.
        count: number of samples.

    Returns:
        Rows of all samples. What was finished before memory ran out is not computed again.

    Raises:
        MemoryExhaustedError: a single sample does not fit.
    """
    finished: list[np.ndarray] = []
    done = 0
    while done < count:
        try:
            for rows in work(plan, done):
                finished.append(rows)
                done += len(rows)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        # Outside the block above: the error held everything that was computed.
        if done < count:
            release_memory()
            plan = reduce(plan)
    runtime.record(batches=plan.as_dict())
    return np.concatenate(finished)


def reduce(plan: BatchPlan) -> BatchPlan:
    """The next plan that takes less, which the log tells of."""
    smaller = plan.reduced()
    if smaller == plan:
        raise MemoryExhaustedError(
            "Memory is exhausted by a single sample; set reconstruction.precision to float16, free"
            " memory, or use a device that has more."
        )
    runtime.logger.warning("Memory is exhausted by %s; goes on with %s.", plan, smaller)
    return smaller


def release_memory() -> None:
    """Gives unused memory of the GPU back, that of what nothing refers to any more included."""
    gc.collect()
    torch.cuda.empty_cache()
