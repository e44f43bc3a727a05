"""The training engine: a fixed budget of steps that can be killed at any of them.

Batches, mixtures, noise and dropout are functions of (seed, step), so a training that resumes from
its checkpoint ends with the weights of one that never stopped: the same bytes on a CPU. Several
processes share each batch (``parallel``). Within a step the host never waits for the device: it
looks at the losses every few dozen steps.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn
from tqdm import tqdm

from neuraldiffuser import runtime
from neuraldiffuser.config.decoder import Recipe
from neuraldiffuser.decoders import parallel
from neuraldiffuser.decoders.checkpoints import LEAST_SECONDS_BETWEEN, Checkpoint, digest
from neuraldiffuser.decoders.data import Trials
from neuraldiffuser.decoders.history import History
from neuraldiffuser.decoders.objectives import Losses, LossFunction, total_steps
from neuraldiffuser.decoders.optimisation import (
    autocast,
    make_optimiser,
    make_scaler,
    make_schedule,
)
from neuraldiffuser.decoders.parallel import Share
from neuraldiffuser.errors import TrainingError

STEPS_BETWEEN_CHECKS = 25


@dataclass(frozen=True)
class Run:
    """What is trained.

    Attributes:
        name: for people.
        model: the network, where it is to be trained.
        losses: what it minimises.
        trials: what it is trained on.
        recipe: its settings.
        origin: whatever else its losses come from, such as a teacher's files.
    """

    name: str
    model: nn.Module
    losses: LossFunction
    trials: Trials
    recipe: Recipe
    origin: str = ""

    @property
    def device(self) -> torch.device:
        """Where the model lies."""
        return next(self.model.parameters()).device

    @property
    def steps(self) -> int:
        """Of the whole training."""
        return total_steps(self.recipe.budget)


class TrainingStep(nn.Module):
    """The model and its losses as one module, of which each step is one call."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.model = run.model
        self.run = run

    def forward(self, step: int) -> Losses:
        """Named losses of a step's batch, in the precision of the recipe."""
        recipe, device = self.run.recipe, self.run.device
        torch.manual_seed(seed_of(recipe.seed, step))  # dropout knows no other generator
        generator = torch.Generator(device).manual_seed(seed_of(recipe.seed, step, 1))
        batch = self.run.trials.batch(
            step, size=recipe.budget.batch_size, seed=recipe.seed, device=device
        )
        with autocast(device, recipe.optimiser.precision):
            return self.run.losses(batch, step, generator)


def train(
    run: Run, *, path_to_checkpoint: Path, seconds: float = LEAST_SECONDS_BETWEEN
) -> pd.DataFrame:
    """Trains ``run.model`` in place, from its checkpoint if there is one of the same run.

    Args:
        run: what to train.
        path_to_checkpoint: where to go on from after a kill; removed by the caller at the end.
        seconds: least time between two checkpoints.

    Returns:
        One row per step: step, learning_rate, loss and its parts.

    Raises:
        ConfigError: the processes cannot share a batch evenly.
        TrainingError: a loss is not finite, the job's time is up, or processes disagree.
    """
    run.model.train()
    share, settings = Share.current(), run.recipe.optimiser
    parallel.require_equal_shares(run.trials.per_subject(run.recipe.budget.batch_size), share)
    compute = parallel.wrap(TrainingStep(run))
    optimiser = make_optimiser(run.model, settings)
    schedule = make_schedule(optimiser, settings, steps=run.steps)
    scaler = make_scaler(run.device, settings.precision)
    parts = {"model": run.model, "optimiser": optimiser, "schedule": schedule, "scaler": scaler}
    checkpoint = Checkpoint(path_to_checkpoint, identity_of(run), parts, least_seconds=seconds)
    history = History(**checkpoint.load())
    if len(history):
        runtime.logger.info("resuming after step %d", len(history))
    if not share.agree(len(history), run.device):
        raise TrainingError(describe_disagreement(run, path_to_checkpoint))
    with progress(run, done=len(history)) as bar, torch.random.fork_rng(devices_of(run)):
        for step in range(len(history), run.steps):
            losses = compute(step)
            optimiser.zero_grad(set_to_none=True)
            scaler.scale(losses["loss"]).backward()
            history.append(schedule.get_last_lr()[0], losses)
            scaler.step(optimiser)
            scaler.update()
            schedule.step()
            bar.update(run.recipe.budget.batch_size)
            if (step + 1) % STEPS_BETWEEN_CHECKS == 0 or step + 1 == run.steps:
                check(run, history, checkpoint, share, bar)
    return history.table()


def check(run: Run, history: History, checkpoint: Checkpoint, share: Share, bar: tqdm) -> None:
    """Looks at the losses, reports, saves; stops where they end or where the time does."""
    failed = history.collect(share)
    if failed is not None:
        raise TrainingError(describe_failure(run, step=failed))
    rate, loss = history.rows[-1][:2]
    bar.set_description_str(
        f"{run.name}, step {len(history)}, loss {loss:.4g}, learning rate {rate:.2g}:",
        refresh=False,
    )
    late = is_late(run, share, checkpoint) and len(history) < run.steps
    if share.index == 0 and (late or checkpoint.is_due()):
        checkpoint.save(history.state_dict())
    if late:
        raise TrainingError(describe_pause(run, steps=len(history)))


def is_late(run: Run, share: Share, checkpoint: Checkpoint) -> bool:
    """Whether for any process the time left is but enough for a last checkpoint."""
    late = torch.tensor(float(checkpoint.is_last()), device=run.device)
    return bool(share.average(late) > 0)


def progress(run: Run, *, done: int) -> tqdm:
    """A bar over samples that starts after ``done`` steps."""
    size = run.recipe.budget.batch_size
    return runtime.progress(
        total=run.steps * size,
        initial=done * size,
        description=run.name,
        unit=" samples",
        scale=True,
    )


def devices_of(run: Run) -> list[torch.device]:
    """The devices besides the CPU whose global generators a training must leave as they were."""
    return [run.device] if run.device.type == "cuda" else []


def describe_failure(run: Run, *, step: int) -> str:
    """The sentence for a loss that is not finite."""
    ids = run.trials.ids_of(step, size=run.recipe.budget.batch_size, seed=run.recipe.seed)
    return (
        f"{run.name}: the loss is not finite at step {step + 1} of {run.steps}, on the images "
        f"{', '.join(map(str, ids.tolist()))}; lower decoder.optimiser.learning_rate or set "
        "decoder.optimiser.precision to fp32."
    )


def describe_pause(run: Run, *, steps: int) -> str:
    """The sentence for a training whose time is up, or which was told to stop."""
    return (
        f"{run.name}: stopped in time after step {steps} of {run.steps}, whose checkpoint is kept; "
        "run the same command again to go on, or raise runtime.decoder_minutes."
    )


def describe_disagreement(run: Run, path_to_checkpoint: Path) -> str:
    """The sentence for processes that would go on from different steps."""
    return (
        f"{run.name}: the processes read different checkpoints from {path_to_checkpoint}; delete "
        "it and run the workflow again."
    )


def identity_of(run: Run) -> str:
    """Digest of everything that a training starts from: code, recipe, initial weights, trials."""
    ids = [torch.from_numpy(ids) for ids in run.trials.ids.values()]
    tensors = [*run.model.state_dict().values(), *run.trials.betas.values(), run.trials.embedding]
    texts = (run.name, run.recipe.model_dump_json(), run.origin, runtime.execution().code)
    return digest("\n".join(texts), [*ids, *tensors])


def seed_of(*parts: int) -> int:
    """One 63-bit seed out of several numbers."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))
