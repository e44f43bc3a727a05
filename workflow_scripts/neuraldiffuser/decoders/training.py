"""The training engine: a fixed budget of steps that can be killed at any of them.

Batches, mixtures, noise and dropout are functions of (seed, step), so a training that resumes from
its checkpoint ends with the weights of one that never stopped: the same bytes on a CPU.
"""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR

from neuraldiffuser import runtime, storage
from neuraldiffuser.config.decoder import Optimiser, Recipe
from neuraldiffuser.decoders.data import Trials
from neuraldiffuser.decoders.objectives import LossFunction, total_steps
from neuraldiffuser.errors import TrainingError

STEPS_BETWEEN_CHECKS = 25
SECONDS_BETWEEN_CHECKPOINTS = 120.0
PRECISIONS = {"bf16": torch.bfloat16, "fp32": None}


@dataclass(frozen=True)
class Run:
    """What is trained: a name for people, the model, its losses, its trials and its settings."""

    name: str
    model: nn.Module
    losses: LossFunction
    trials: Trials
    recipe: Recipe


def train(
    run: Run, *, path_to_checkpoint: Path, seconds: float = SECONDS_BETWEEN_CHECKPOINTS
) -> pd.DataFrame:
    """Trains ``run.model`` in place, from its checkpoint if there is one of the same run.

    Args:
        run: what to train.
        path_to_checkpoint: where to go on from after a kill; removed by the caller at the end.
        seconds: least time between two checkpoints.

    Returns:
        One row per step: step, learning_rate, loss and its parts.

    Raises:
        TrainingError: a loss is not finite; names the step and the images of its batch.
    """
    model, recipe, device = run.model.train(), run.recipe, run.trials.embedding.device
    steps, size = total_steps(recipe.budget), recipe.budget.batch_size
    optimiser = make_optimiser(model, recipe.optimiser)
    schedule = make_schedule(optimiser, recipe.optimiser, steps=steps)
    state = TrainingState(model, optimiser, schedule, identity=identity_of(run))
    history = state.load(path_to_checkpoint)
    saved = time.monotonic()
    bar = runtime.progress(total=steps, description=run.name, unit="step")
    bar.update(len(history))
    with bar, torch.random.fork_rng():
        for step in range(len(history), steps):
            torch.manual_seed(seed_of(recipe.seed, step))  # dropout knows no other generator
            generator = torch.Generator(device).manual_seed(seed_of(recipe.seed, step, 1))
            batch = run.trials.batch(step, size=size, seed=recipe.seed)
            with autocast(device, recipe.optimiser.precision):
                losses = run.losses(batch, step, generator)
            optimiser.zero_grad(set_to_none=True)
            losses["loss"].backward()
            history.append(schedule.get_last_lr()[0], losses)
            optimiser.step()
            schedule.step()
            bar.update()
            if (step + 1) % STEPS_BETWEEN_CHECKS == 0 or step + 1 == steps:
                loss = history.collect(run)  # the only point that waits for the device
                bar.set_description(f"{run.name}, loss {loss:.4g}", refresh=False)
                if time.monotonic() - saved >= seconds:
                    state.save(path_to_checkpoint, history)
                    saved = time.monotonic()
    return history.table()


class History:
    """Learning rate and losses of every step; the newest ones still on the device."""

    def __init__(self, names: tuple[str, ...] = (), rows: list[list[float]] | None = None) -> None:
        self.names = names
        self.rows = rows or []
        self._pending: list[tuple[float, torch.Tensor]] = []

    def __len__(self) -> int:
        return len(self.rows) + len(self._pending)

    def append(self, rate: float, losses: dict[str, torch.Tensor]) -> None:
        """Notes a step's losses without waiting for the device."""
        self.names = tuple(losses)
        self._pending.append((rate, torch.stack([value.detach() for value in losses.values()])))

    def collect(self, run: Run) -> float:
        """Fetches what is pending and returns the last loss; raises TrainingError if not finite."""
        values = torch.stack([losses for _, losses in self._pending]).cpu().double()
        bad = (~values.isfinite().all(dim=1)).nonzero().flatten()
        if len(bad):
            raise TrainingError(describe_failure(run, step=len(self.rows) + int(bad[0])))
        for (rate, _), row in zip(self._pending, values.tolist(), strict=True):
            self.rows.append([rate, *row])
        self._pending = []
        return float(values[-1, 0])

    def table(self) -> pd.DataFrame:
        """One row per step: step, learning_rate, loss and its parts."""
        table = pd.DataFrame(self.rows, columns=["learning_rate", *self.names])
        return table.rename_axis("step").reset_index()


def describe_failure(run: Run, *, step: int) -> str:
    """The sentence for a loss that is not finite."""
    size = run.recipe.budget.batch_size
    ids = run.trials.batch(step, size=size, seed=run.recipe.seed).ids
    return (
        f"{run.name}: the loss is not finite at step {step + 1} of "
        f"{total_steps(run.recipe.budget)}, on the images {', '.join(map(str, ids.tolist()))}; "
        "lower decoder.optimiser.learning_rate or set decoder.optimiser.precision to fp32."
    )


@dataclass(frozen=True)
class TrainingState:
    """All that a training carries from step to step, and the identity of its run."""

    model: nn.Module
    optimiser: torch.optim.Optimizer
    schedule: OneCycleLR
    identity: str

    def save(self, path: Path, history: History) -> None:
        """Writes a checkpoint atomically."""
        content = {
            "identity": self.identity,
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
            "names": list(history.names),
            "rows": torch.tensor(history.rows, dtype=torch.float64),
        }
        with storage.replace_atomically(path) as temporary, temporary.open("wb") as file:
            torch.save(content, file)

    def load(self, path: Path) -> History:
        """Restores a checkpoint of the same run; returns an empty history where there is none."""
        content = read_checkpoint(path)
        if content.get("identity") != self.identity:
            return History()
        self.model.load_state_dict(content["model"])
        self.optimiser.load_state_dict(content["optimiser"])
        self.schedule.load_state_dict(content["schedule"])
        runtime.logger.info("resuming after step %d", len(content["rows"]))
        return History(tuple(content["names"]), content["rows"].tolist())


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint, or nothing where there is none that can be read."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        return {}
    except Exception as error:  # torch has no error class of its own for damaged files
        runtime.logger.warning("%s cannot be read (%s): training starts anew", path, error)
        return {}


def identity_of(run: Run) -> str:
    """Digest of everything that a training starts from: recipe, initial weights, trials."""
    digest = hashlib.sha256(run.name.encode() + run.recipe.model_dump_json().encode())
    for ids in run.trials.ids.values():
        digest.update(ids.tobytes())
    tensors = [*run.model.state_dict().values(), *run.trials.betas.values(), run.trials.embedding]
    for tensor in tensors:
        digest.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def seed_of(*parts: int) -> int:
    """One 63-bit seed out of several numbers."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The precision of forward passes; weights and losses stay float32."""
    dtype = PRECISIONS[precision]
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)


def released_groups(model: nn.Module) -> tuple[list[str], list[str]]:
    """Names with and without decay: only biases outside the voxel encoders are exempt."""
    return split_names(
        model, lambda name, _: name.startswith("voxel_encoder.") or "bias" not in name
    )


def matrix_groups(model: nn.Module) -> tuple[list[str], list[str]]:
    """Names with and without decay: only matrices and kernels decay."""
    return split_names(model, lambda _, parameter: parameter.ndim > 1)


DECAY_GROUPS: dict[str, Callable[[nn.Module], tuple[list[str], list[str]]]] = {
    "released": released_groups,
    "matrices": matrix_groups,
}


def split_names(
    model: nn.Module, decays: Callable[[str, nn.Parameter], bool]
) -> tuple[list[str], list[str]]:
    """Names of the parameters that decay and of those that do not."""
    chosen = {name: decays(name, parameter) for name, parameter in model.named_parameters()}
    return [name for name in chosen if chosen[name]], [n for n in chosen if not chosen[n]]


def make_optimiser(model: nn.Module, settings: Optimiser) -> torch.optim.AdamW:
    """Fused AdamW with decay for the voxel encoders, for the rest, and without."""
    parameters = dict(model.named_parameters())
    decaying, exempt = DECAY_GROUPS[settings.decay_groups](model)
    voxel = [name for name in decaying if name.startswith("voxel_encoder.")]
    rest = [name for name in decaying if not name.startswith("voxel_encoder.")]
    decays = (settings.voxel_weight_decay, settings.weight_decay, 0.0)
    groups = [
        {"params": [parameters[name] for name in names], "weight_decay": decay}
        for names, decay in zip((voxel, rest, exempt), decays, strict=True)
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, fused=True)


def make_schedule(
    optimiser: torch.optim.Optimizer, settings: Optimiser, *, steps: int
) -> OneCycleLR:
    """One cycle of rate and momentum, stepped every iteration."""
    return OneCycleLR(
        optimiser,
        max_lr=settings.learning_rate,
        total_steps=steps,
        # torch divides by the length of the warm-up less one step, which must not be zero
        pct_start=max(settings.warmup_fraction, min(1.5 / steps, 0.75)),
        final_div_factor=settings.final_division,
    )
