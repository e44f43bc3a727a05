"""Several processes that train one decoder together: which rows are whose, and how they start.

Every process draws the random numbers of the whole batch and computes its own rows of it, so the
number of processes changes a result in its last bits only.
"""

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import distributed, multiprocessing, nn

from neuraldiffuser import runtime
from neuraldiffuser.errors import ConfigError, NeuralDiffuserError

Rows = TypeVar("Rows")


@dataclass(frozen=True)
class Share:
    """The rows of a batch that this process computes: ``index``, ``index + count`` and so on."""

    index: int = 0
    count: int = 1

    @classmethod
    def current(cls) -> "Share":
        """This process's share: everything where no others train with it."""
        if not distributed.is_initialized():
            return cls()
        return cls(distributed.get_rank(), distributed.get_world_size())

    def take(self, rows: Rows) -> Rows:
        """Its rows of a batch's tensor or array."""
        return rows[self.index :: self.count]

    def gather(self, rows: torch.Tensor) -> torch.Tensor:
        """The rows of all processes in the batch's order; gradients flow back to their owners."""
        return rows if self.count == 1 else _Gather.apply(rows, self)

    def agree(self, value: int, device: torch.device) -> bool:
        """Whether ``value`` is the same in all processes."""
        values = torch.tensor([value, value**2], dtype=torch.float64, device=device)
        mean, square = self.average(values).tolist()
        return square == mean**2

    def average(self, values: torch.Tensor) -> torch.Tensor:
        """Means over the processes, on each of them."""
        if self.count > 1:
            distributed.all_reduce(values)
        return values / self.count

    def wait(self) -> None:
        """Returns when every process has called it."""
        if self.count > 1:
            from accelerate import PartialState

            PartialState().wait_for_everyone()


class _Gather(torch.autograd.Function):
    """``Share.gather``: each process owns the gradients of its rows, whoever computed them."""

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, share: Share) -> torch.Tensor:
        ctx.share = share
        parts = [torch.empty_like(rows) for _ in range(share.count)]
        distributed.all_gather(parts, rows.contiguous())
        return torch.stack(parts, dim=1).flatten(0, 1)

    @staticmethod
    def backward(ctx: Any, gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        gradients = gradients.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(gradients)
        return ctx.share.take(gradients), None


class Dropout(nn.Module):
    """Dropout over a batch's rows that drops the same ones however many processes share them.

    Drawn from torch's global generator, which the engine seeds at every step.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """This process's rows (n, ...) to the same shape."""
        if not self.training or not self.probability:
            return x
        share = Share.current()
        drawn = torch.rand((len(x) * share.count, *x.shape[1:]), device=x.device)
        return x * (share.take(drawn) >= self.probability) / (1 - self.probability)


def wrap(module: nn.Module) -> nn.Module:
    """``module`` with its gradients averaged over the processes; itself where there is but one."""
    if Share.current().count == 1:
        return module
    from accelerate import Accelerator, DistributedDataParallelKwargs

    options = DistributedDataParallelKwargs(gradient_as_bucket_view=True)
    on_cpu = runtime.execution().device == "cpu"
    return Accelerator(cpu=on_cpu, kwargs_handlers=[options]).prepare_model(module)


def launch(function: Callable[..., None], **arguments: Any) -> None:
    """Calls ``function`` in as many processes as the job has for it, and waits for all of them.

    Args:
        function: of a module that can be imported; finds its rows by ``Share.current()``.
        arguments: its keyword arguments.

    Raises:
        ConfigError: there are fewer GPUs than processes.
        NeuralDiffuserError: as raised in any of the processes.
    """
    execution = runtime.execution()
    if execution.device == "cuda" and execution.processes > torch.cuda.device_count():
        raise ConfigError(
            f"runtime.decoder_processes is {execution.processes}, but the job sees "
            f"{torch.cuda.device_count()} GPUs; grant it as many (--resources gpu="
            f"{execution.processes} on one machine) or use fewer processes."
        )
    if execution.processes == 1:
        with runtime.stopping_when_told():
            function(**arguments)
        return
    with tempfile.TemporaryDirectory() as folder, runtime.stopping_when_told():
        meeting = Path(folder, "meeting")
        errors = multiprocessing.get_context("spawn").SimpleQueue()
        try:
            multiprocessing.spawn(
                _join,
                args=(execution, meeting, errors, function, arguments),
                nprocs=execution.processes,
            )
        except multiprocessing.ProcessRaisedException:
            if errors.empty():
                raise
            raise errors.get() from None


def _join(
    index: int,
    execution: runtime.Execution,
    meeting: Path,
    errors: multiprocessing.SimpleQueue,
    function: Callable[..., None],
    arguments: dict[str, Any],
) -> None:
    """What each process does: meets the others, works, and hands its error to the first process."""
    from accelerate import PartialState

    os.environ |= {
        "RANK": str(index),
        "LOCAL_RANK": str(index),
        "WORLD_SIZE": str(execution.processes),
        "LOCAL_WORLD_SIZE": str(execution.processes),
        "OMP_NUM_THREADS": str(execution.threads),  # else accelerate chooses a number
    }
    runtime.join(execution, quiet=index > 0)
    PartialState(
        cpu=execution.device == "cpu",
        init_method=f"file://{meeting}",
        rank=index,
        world_size=execution.processes,
    )
    try:
        with runtime.stopping_when_told():
            function(**arguments)
    except NeuralDiffuserError as error:
        errors.put(error)
        raise  # leaving at once: taking leave of processes that wait for this one would wait too
    distributed.destroy_process_group()


def require_equal_shares(trials_per_subject: int, share: Share) -> None:
    """Raises ConfigError if the processes cannot split a subject's trials of a batch evenly."""
    if trials_per_subject % share.count:
        raise ConfigError(
            f"runtime.decoder_processes is {share.count}, which does not divide the "
            f"{trials_per_subject} trials that a batch takes from each subject; choose a divisor "
            "or another batch_size."
        )
