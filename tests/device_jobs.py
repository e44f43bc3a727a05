"""Jobs that claim GPUs, each a process of its own."""

import os
import sys
from pathlib import Path

from neuraldiffuser import devices


def hold(folder: str, count: int) -> None:
    """Claims devices, tells which, and keeps them until the standard input ends."""
    devices.claim(count, folder=Path(folder))
    print(os.environ.get(devices.CHOICE), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    hold(sys.argv[1], int(sys.argv[2]))
