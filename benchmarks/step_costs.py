"""What a step computes, moves and holds, followed on tensors without content where it is large.

Everything is read off the tensors of a step. In ``FakeTensorMode`` shapes and types are those of
the real one, nothing is allocated, and no total is typed by hand.
"""

import weakref
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

aten = torch.ops.aten
# torch counts the attention of a GPU's kernels, but not of a CPU's.
flop_registry |= {
    aten._scaled_dot_product_flash_attention_for_cpu: flop_registry[
        aten._scaled_dot_product_flash_attention
    ],
    aten._scaled_dot_product_flash_attention_for_cpu_backward: flop_registry[
        aten._scaled_dot_product_flash_attention_backward
    ],
}
ALLOCATION = 512  # bytes that CUDA's allocator rounds up to
FLOAT32 = 4
# AdamW reads weight, gradient and both moments and writes all but the gradient, which the backward
# pass wrote before. Clearing a gradient that is written, not added to, moves nothing.
BYTES_OF_UPDATE = 8 * FLOAT32


@contextmanager
def without_content() -> Iterator[None]:
    """Tensors that are made inside have a shape and a type, and take no memory."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield


# --- operations and bytes ------------------------------------------------------------------------


def count_operations(work: Callable[[], object]) -> int:
    """Operations of products, convolutions and attention that ``work`` executes in this thread.

    What is compiled runs uncompiled.
    """
    with torch.compiler.set_stance("force_eager"), Operations() as operations:
        work()
    return operations.total


class Operations(TorchDispatchMode):
    """Adds up operations as they are executed, recomputed ones included.

    Attributes:
        total: so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(
        self, operation: Any, _types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        result = operation(*args, **(kwargs or {}))
        if formula := flop_registry.get(operation._overloadpacket):
            self.total += formula(*args, **(kwargs or {}), out_val=result)
        return result


@dataclass(frozen=True)
class Part:
    """A part of a step: its operations, and the bytes that it cannot avoid to move."""

    name: str
    operations: float
    bytes: float


def parts_of_products(model: nn.Module, step: Callable[[], object]) -> list[Part]:
    """The matrix products and convolutions of ``step``, forward and backward, by part of ``model``.

    A product with a weight reads its operands and writes its result once, at the precision it is
    computed in; a weight's gradient counts with the optimiser. All else could be computed on the
    way: attention counts its operations only, what stands between products nothing.
    """
    with Products(model) as products:
        step()
    return [Part(name, *costs) for name, costs in products.costs.items()]


def part_of_optimiser(model: nn.Module) -> Part:
    """Reading and writing trained weights, gradients and moments once, in float32."""
    trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    return Part("optimiser", 0, BYTES_OF_UPDATE * trained)


class Products(TorchDispatchMode):
    """Collects operations and bytes of products by the weights that they multiply.

    Attributes:
        costs: (operations, bytes) by name.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.costs: dict[str, tuple[float, float]] = defaultdict(lambda: (0, 0))
        self._weights: dict[int, str] = {}  # part by storage: of a weight or its rounded copy
        self._inputs: dict[int, str] = {}  # part by storage: of what a weight was multiplied by
        self._kept: list[torch.Tensor] = []  # no storage goes, so that none takes another's place
        for name, weight in model.named_parameters():
            self._remember(self._weights, weight, part_of(name))

    def __torch_dispatch__(
        self, operation: Any, _types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        result = operation(*args, **(kwargs or {}))
        operands = [leaf for leaf in tree_leaves(args) if isinstance(leaf, torch.Tensor)]
        part = find(self._weights, operands)
        if operation._overloadpacket is aten._to_copy and part:
            self._remember(self._weights, result, part)
        if operation._overloadpacket in flop_registry:
            self._count(operation, args, kwargs or {}, result, operands, part)
        return result

    def _count(self, operation, args, kwargs, result, operands, part) -> None:
        packet = operation._overloadpacket
        backward = torch._C._current_graph_task_id() != -1
        written = [leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
        if packet is aten.convolution_backward:
            written = [tensor for tensor in written if tensor.shape == args[1].shape]
        elif part is None and backward and (part := find(self._inputs, operands)):
            written = []  # the gradient of a weight
        elif part and not backward:
            for tensor in operands:
                self._remember(self._inputs, tensor, part)
        name = f"{part or 'attention and similarities'}, {'backward' if backward else 'forward'}"
        operations, moved = self.costs[name]
        self.costs[name] = (
            operations + flop_registry[packet](*args, **kwargs, out_val=result),
            moved + (sum(map(bytes_of, [*operands, *written])) if part else 0),
        )

    def _remember(self, parts: dict[int, str], tensor: torch.Tensor, part: str) -> None:
        self._kept.append(tensor)
        parts.setdefault(key_of(tensor), part)


def find(parts: dict[int, str], tensors: list[torch.Tensor]) -> str | None:
    """The part of the first tensor that has one."""
    return next((parts[key_of(tensor)] for tensor in tensors if key_of(tensor) in parts), None)


def key_of(tensor: torch.Tensor) -> int:
    """Identifies a tensor's storage as long as it lives."""
    return tensor.untyped_storage()._cdata


def bytes_of(tensor: torch.Tensor) -> int:
    """Of a tensor's values; repeated ones count once."""
    return min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())


def part_of(name: str) -> str:
    """A weight's part: the module's child that it lies in, within the prior one level deeper."""
    first, *rest = name.split(".")
    return f"{first}.{rest[0]}" if first == "prior" else first


# --- memory --------------------------------------------------------------------------------------


class PeakMemory(TorchDispatchMode):
    """Follows every storage from the operation that makes it to its end.

    Attributes:
        live: bytes held now.
        peak: most bytes held at once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live = 0
        self.peak = 0
        self._known: dict[int, weakref.ref] = {}

    def __torch_dispatch__(
        self, operation: Any, _types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        result = operation(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self._follow(leaf.untyped_storage())
        return result

    def _follow(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._known:
            return
        size = -(-storage.nbytes() // ALLOCATION) * ALLOCATION

        def free(_: weakref.ref) -> None:
            del self._known[key]
            self.live -= size

        self._known[key] = weakref.ref(storage, free)
        self.live += size
        self.peak = max(self.peak, self.live)


def trace_peak(make_step: Callable[[], Callable[[], object]], *, steps: int = 2) -> int:
    """Most bytes held at once by ``steps`` steps and by what ``make_step`` builds for them.

    The optimiser's moments exist from the first step on, so the second one holds the most.
    """
    with without_content(), PeakMemory() as memory:
        step = make_step()
        for _ in range(steps):
            step()
    return memory.peak
