"""The losses of a training, step by step, fetched from the device a few dozen steps at a time."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch

from neuraldiffuser.decoders.parallel import Share


class History:
    """Learning rate and losses of every step; the newest ones still on the device.

    Args:
        names: of the losses, the total first.
        rows: (steps, 1 + losses) of a training that goes on: learning rate, losses.
    """

    def __init__(
        self, names: Sequence[str] = (), rows: Sequence[Sequence[float]] | torch.Tensor = ()
    ) -> None:
        self.names = tuple(names)
        self.rows = [list(map(float, row)) for row in rows]
        self._rates: list[float] = []
        self._pending: list[torch.Tensor] = []

    def __len__(self) -> int:
        return len(self.rows) + len(self._pending)

    def append(self, rate: float, losses: dict[str, torch.Tensor]) -> None:
        """Notes a step's losses without waiting for the device."""
        self.names = tuple(losses)
        self._rates.append(rate)
        self._pending.append(torch.stack([value.detach().float() for value in losses.values()]))

    def collect(self, share: Share) -> int | None:
        """Fetches what is pending, averaged over processes; the first step that is not finite."""
        values = share.average(torch.stack(self._pending)).cpu().double()
        bad = (~values.isfinite().all(dim=1)).nonzero().flatten()
        if len(bad):
            return len(self.rows) + int(bad[0])
        self.rows += [[rate, *row] for rate, row in zip(self._rates, values.tolist(), strict=True)]
        self._rates, self._pending = [], []
        return None

    def state_dict(self) -> dict[str, Any]:
        """What ``History`` takes to go on; nothing may be pending."""
        return {"names": list(self.names), "rows": torch.tensor(self.rows, dtype=torch.float64)}

    def table(self) -> pd.DataFrame:
        """One row per step: step, learning_rate, loss and its parts."""
        table = pd.DataFrame(self.rows, columns=["learning_rate", *self.names])
        return table.rename_axis("step").reset_index()
