"""What processes do with a shared table in tests: of a module that new ones can import."""

import time
from pathlib import Path

import numpy as np
import torch

from neuraldiffuser.decoders.parallel import Share
from neuraldiffuser.decoders.shared_table import SharedTable

VALUES = np.random.default_rng(0).normal(size=(10, 2, 3)).astype(np.float16)


class Source:
    """What computes rows and remembers which; fails beyond ``limit``."""

    def __init__(self, limit=10):
        self.limit = limit
        self.computed = []

    def __call__(self, rows):
        if rows.stop > self.limit:
            raise RuntimeError("killed")
        self.computed.append((rows.start, rows.stop))
        return torch.from_numpy(VALUES[rows]).float()


def read(path, source, *, identity="mine", shape=VALUES.shape):
    table = SharedTable(path, identity, shape)
    return table.rows(source, at_once=4, description="computes", unit="row")


def compute_slowly(folder: Path) -> None:
    """Reads the table, the later a process the slower."""
    index, source = Share.current().index, Source()

    def compute(rows):
        time.sleep(index)
        return source(rows)

    rows = read(folder / "table", compute)
    np.savez(folder / f"{index}.npz", rows=rows, computed=source.computed)
