"""Stages of work on a stream of items, each ahead of the next, in bounded memory."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], *, workers: int
) -> Iterator[Result]:
    """``map`` by threads that stay ahead of whoever takes the results.

    Results come in the order of the items, so the number of workers changes none of them. Stages
    are chained by nesting: ``map_ahead(second, map_ahead(first, items, ...), ...)``. An error
    appears where its result would have, after every result before it.

    Args:
        function: called by several threads at once where there are several workers.
        items: taken one by one, by the thread that takes the results.
        workers: threads; twice as many results are under way or waiting at any time.
    """
    under_way: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(workers)
    try:
        for item in items:
            under_way.append(pool.submit(function, item))
            if len(under_way) > 2 * workers:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def kernels_that_repeat() -> Iterator[None]:
    """Kernels of one thread each and of whole float32.

    Threads that each compute a batch of their own need not wait for each other inside every
    kernel, and no sum is split by their number. Left alone, cuDNN multiplies float32 as TF32,
    with ten bits.
    """
    threads, rounded = torch.get_num_threads(), torch.backends.cudnn.allow_tf32
    torch.set_num_threads(1)
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.backends.cudnn.allow_tf32 = rounded
