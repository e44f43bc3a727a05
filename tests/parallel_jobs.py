"""What several processes do in tests: of a module that new processes can import."""

import os
import signal
from pathlib import Path

import numpy as np
import torch
from planted_world import small_recipe

from neuraldiffuser.decoders.data import read_trials
from neuraldiffuser.decoders.fitting import fit, new_decoder
from neuraldiffuser.decoders.objectives import high_level_losses, low_level_losses
from neuraldiffuser.decoders.parallel import Share, wrap
from neuraldiffuser.decoders.training import Run, TrainingStep


def train_pair(world: Path, target: str, folder: Path) -> None:
    """Trains on two subjects."""
    paths = [world / f"voxels/{subject}.h5" for subject in ("subj02", "subj03")]
    trials = read_trials(paths, world / f"targets/{target}.h5")
    fit(
        new_decoder(target, trials, small_recipe()),
        trials,
        name="pretraining",
        path_to_decoder=folder / "decoder.safetensors",
        path_to_curve=folder / "curve.csv",
    )


def train_when_told_to_stop(world: Path, target: str, folder: Path) -> None:
    """The same, in processes that a scheduler told to stop as soon as they began."""
    os.kill(os.getpid(), signal.SIGTERM)
    if Share.current().count > 1:
        os.kill(os.getppid(), signal.SIGTERM)
    train_pair(world, target, folder)


def fail_alone(error: Exception) -> None:
    """The second process fails while the first waits for it."""
    share = Share.current()
    if share.index:
        raise error
    share.average(torch.zeros(1))


class ByImage:
    """A teacher whose vectors depend on the images alone."""

    def __call__(self, ids, _, share):
        def vectors(seed):
            drawn = [np.random.default_rng([seed, image]).normal(size=(16, 8)) for image in ids]
            return torch.nn.functional.normalize(torch.tensor(np.array(drawn)).float(), dim=2)

        return share.take(vectors(1)), share.take(vectors(2))


def write_gradients(world: Path, target: str, folder: Path) -> None:
    """The gradients of the first step, as the optimiser would meet them."""
    paths = [world / f"voxels/{subject}.h5" for subject in ("subj02", "subj03")]
    trials = read_trials(paths, world / f"targets/{target}.h5")
    low_level = small_recipe().low_level.model_copy(update={"teacher": "autoencoder"})
    decoder = new_decoder(target, trials, small_recipe(low_level=low_level))
    pipeline = high_level_losses if target == "clip_text" else low_level_losses
    teacher = () if target == "clip_text" else (ByImage(),)
    losses = pipeline(decoder.model, decoder.recipe, *teacher)
    step = wrap(TrainingStep(Run("run", decoder.model, losses, trials, decoder.recipe)))
    step(0)["loss"].backward()
    if Share.current().index == 0:
        gradients = {name: weight.grad for name, weight in decoder.model.named_parameters()}
        torch.save(gradients, folder / "gradients")
