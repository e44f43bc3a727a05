"""Processes that share a batch reach what one process reaches, and fail as one."""

import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from planted_world import small_recipe
from torch.multiprocessing import ProcessRaisedException

from neuraldiffuser import runtime
from neuraldiffuser.decoders.data import read_trials
from neuraldiffuser.decoders.fitting import fit, new_decoder
from neuraldiffuser.decoders.objectives import high_level_losses, low_level_losses
from neuraldiffuser.decoders.parallel import Dropout, Share, launch, wrap
from neuraldiffuser.decoders.store import read_decoder
from neuraldiffuser.decoders.training import Run, TrainingStep
from neuraldiffuser.errors import ConfigError, DataError, TrainingError


def test_shares_interleave_to_the_whole():
    rows = np.arange(12).reshape(6, 2)
    parts = [Share(index, 3).take(rows) for index in range(3)]
    np.testing.assert_array_equal(np.stack(parts, axis=1).reshape(6, 2), rows)
    assert Share.current() == Share()


def test_dropout_keeps_the_mean_and_drops_its_share():
    dropped = Dropout(0.3)(torch.ones(200, 500))
    assert (dropped == 0).double().mean() == pytest.approx(0.3, abs=0.01)
    assert dropped.mean().item() == pytest.approx(1, abs=0.01)
    assert set(dropped.unique().tolist()) == {0.0, torch.tensor(1 / 0.7).item()}
    assert (Dropout(0.3).eval()(torch.ones(5)) == 1).all()
    assert (Dropout(0.0)(torch.ones(5)) == 1).all()


def train_pair(world: Path, target: str, folder: Path) -> None:
    """Trains on two subjects; a function of this module so that new processes can find it."""
    paths = [world / f"voxels/{subject}.h5" for subject in ("subj02", "subj03")]
    trials = read_trials(paths, world / f"targets/{target}.h5")
    fit(
        new_decoder(target, trials, small_recipe()),
        trials,
        name="pretraining",
        path_to_decoder=folder / "decoder.safetensors",
        path_to_curve=folder / "curve.csv",
    )


def launched(monkeypatch, world, target, folder, **execution):
    folder.mkdir(exist_ok=True)
    granted = runtime.Execution(label="test", log=str(folder / "log"), **execution)
    monkeypatch.setattr(runtime, "_execution", granted)
    launch(train_pair, world=world, target=target, folder=folder)
    curve = pd.read_csv(folder / "curve.csv").to_numpy()
    weights = read_decoder(folder / "decoder.safetensors").model.state_dict().values()
    return curve, torch.cat([weight.flatten() for weight in weights])


@pytest.mark.parametrize("target", ["clip_text", "vae_latent"])
def test_two_processes_follow_the_curve_of_one(monkeypatch, world, tmp_path, target):
    (one, alone), (two, together) = (
        launched(monkeypatch, world, target, tmp_path / str(count), processes=count)
        for count in (1, 2)
    )
    assert two.shape == one.shape == (30, one.shape[1])
    assert (tmp_path / "2/log").read_text().count("last loss") == 1
    np.testing.assert_allclose(two, one, rtol=1e-4)
    assert (together - alone).norm() < 1e-3 * alone.norm()


def test_two_processes_stop_in_time_and_go_on(monkeypatch, world, tmp_path):
    pair = {"processes": 2}
    whole, weights = launched(monkeypatch, world, "clip_text", tmp_path / "whole", **pair)
    folder = tmp_path / "paused"
    with pytest.raises(TrainingError, match="the time limit is reached after step 25 of 30"):
        launched(monkeypatch, world, "clip_text", folder, deadline=time.monotonic(), **pair)
    assert [path.name for path in folder.iterdir() if path.name != "log"] == [
        "decoder.safetensors.partial"
    ]
    resumed, again = launched(monkeypatch, world, "clip_text", folder, **pair)
    np.testing.assert_array_equal(resumed, whole)
    assert torch.equal(again, weights)


def fail_alone(error: Exception) -> None:
    """The second process fails while the first waits for it."""
    share = Share.current()
    if share.index:
        raise error
    share.average(torch.zeros(1))


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (DataError("This file is damaged."), DataError),
        (OSError(28, "full"), ProcessRaisedException),
    ],
)
def test_a_process_that_fails_alone_ends_the_job(monkeypatch, tmp_path, error, raised):
    granted = runtime.Execution(processes=2, label="test", log=str(tmp_path / "log"))
    monkeypatch.setattr(runtime, "_execution", granted)
    with pytest.raises(raised) as found:
        launch(fail_alone, error=error)
    assert str(error) in str(found.value)


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr(runtime, "_execution", runtime.Execution(device="cuda", processes=6))
    with pytest.raises(ConfigError) as error:
        launch(train_pair)
    assert str(error.value) == (
        f"runtime.decoder_processes is 6, but the job sees {torch.cuda.device_count()} GPUs; grant "
        "it as many (--resources gpu=6 on one machine) or use fewer processes."
    )


class ByImage:
    """A teacher whose vectors depend on the images alone; of this module, for new processes."""

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


@pytest.mark.parametrize("target", ["clip_text", "vae_latent"])
def test_gradients_of_two_processes_are_those_of_one(monkeypatch, world, tmp_path, target):
    found = []
    for count in (1, 2):
        granted = runtime.Execution(processes=count, label="test", log=str(tmp_path / "log"))
        monkeypatch.setattr(runtime, "_execution", granted)
        launch(write_gradients, world=world, target=target, folder=tmp_path)
        found.append(torch.load(tmp_path / "gradients"))
    one, two = found
    largest = max(gradient.abs().max() for gradient in one.values())
    for name, gradient in one.items():
        torch.testing.assert_close(two[name], gradient, rtol=1e-4, atol=1e-6 * float(largest))


def test_an_error_in_any_process_is_the_jobs_error(monkeypatch, world, tmp_path):
    with pytest.raises(ConfigError) as error:
        launched(monkeypatch, world, "clip_text", tmp_path / "run", processes=3)
    assert str(error.value) == (
        "runtime.decoder_processes is 3, which does not divide the 8 trials that a batch takes "
        "from each subject; choose a divisor or another batch_size."
    )
