"""What a device does at best: bytes that it moves and operations that it does per second."""

import time
from collections.abc import Callable

import torch
from comparison import describe_processor

RUNS = 10
BYTES_OF_COPY = {"cpu": 1 << 28, "cuda": 1 << 32}  # beyond every cache
SIDE_OF_PRODUCT = {"cpu": 2048, "cuda": 8192}


def measure_matrix_rate(device: str, dtype: torch.dtype) -> float:
    """Operations per second of a large matrix product with all threads: the best of ten."""
    side = SIDE_OF_PRODUCT[device]
    first, second = torch.ones(2, side, side, device=device, dtype=dtype)
    return 2 * side**3 / best_seconds(lambda: (first @ second)[0, 0].item())


def measure_bandwidth(device: str) -> float:
    """Bytes per second of a large copy, read and written: the best of ten."""
    source = torch.ones(BYTES_OF_COPY[device], dtype=torch.uint8, device=device)
    target = torch.zeros_like(source)
    return 2 * source.nbytes / best_seconds(lambda: target.copy_(source)[0].item())


def best_seconds(work: Callable[[], object]) -> float:
    """The shortest of ten runs of ``work``, which waits for the device."""
    seconds = []
    for _ in range(RUNS):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def describe_device(device: str) -> str:
    """The GPU, or the processor."""
    return torch.cuda.get_device_name() if device == "cuda" else describe_processor()
