"""A table that the processes of a training compute together, once, and read from one file.

The file lies beside the training's checkpoint, so a training that resumes computes nothing again.
Its memory is the page cache's: taken once for all processes, and given back where it is short.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from neuraldiffuser import runtime
from neuraldiffuser.decoders.parallel import Share

DTYPE = np.dtype(np.float16)


@dataclass(frozen=True)
class SharedTable:
    """A file of float16 rows that begins with its identity, without which it is unfinished.

    Attributes:
        path: of the file.
        identity: digest of what the rows are computed from; a file with another is replaced.
        shape: (rows, ...).
    """

    path: Path
    identity: str
    shape: tuple[int, ...]

    def rows(
        self, compute: Callable[[slice], torch.Tensor], *, at_once: int, description: str, unit: str
    ) -> torch.Tensor:
        """All rows on the host, float16, mapped from the file; computed first where it lacks them.

        Args:
            compute: from a slice to its rows, the same in all processes.
            at_once: how many rows it computes in one go.
            description: what it does, for progress.
            unit: name of a row, for progress.
        """
        share, is_finished = Share.current(), self._is_finished()
        share.wait()  # all have looked before any of them writes
        if not is_finished:
            if share.index == 0:
                self._begin()
            share.wait()
            starts = share.take(range(0, self.shape[0], at_once))
            slices = [slice(start, min(start + at_once, self.shape[0])) for start in starts]
            total = sum(rows.stop - rows.start for rows in slices)
            with runtime.progress(total=total, description=description, unit=unit) as bar:
                self._write(compute, slices, bar)
            share.wait()
            if share.index == 0:
                self._finish()
        return self._map()

    @property
    def _head(self) -> bytes:
        return self.identity.encode()

    @property
    def _row_bytes(self) -> int:
        return prod(self.shape[1:]) * DTYPE.itemsize

    def _is_finished(self) -> bool:
        if not self.path.is_file():
            return False
        size = len(self._head) + self.shape[0] * self._row_bytes
        with self.path.open("rb") as file:
            return file.read(len(self._head)) == self._head and self.path.stat().st_size == size

    def _begin(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_bytes(bytes(len(self._head)))

    def _write(
        self, compute: Callable[[slice], torch.Tensor], slices: list[slice], bar: tqdm
    ) -> None:
        with self.path.open("r+b") as file:
            for rows in slices:
                file.seek(len(self._head) + rows.start * self._row_bytes)
                file.write(compute(rows).half().cpu().contiguous().numpy())
                bar.update(rows.stop - rows.start)
            file.flush()
            os.fsync(file.fileno())

    def _finish(self) -> None:
        with self.path.open("r+b") as file:
            file.write(self._head)

    def _map(self) -> torch.Tensor:
        # copied where it is changed, which it is nowhere: torch warns of what cannot be changed
        rows = np.memmap(self.path, DTYPE, "c", offset=len(self._head), shape=self.shape)
        return torch.from_numpy(rows)
