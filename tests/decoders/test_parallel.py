"""Processes that share a batch reach what one process reaches, and fail as one."""

import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from planted_world import small_recipe

from neuraldiffuser import runtime
from neuraldiffuser.decoders.data import read_trials
from neuraldiffuser.decoders.fitting import fit, new_decoder
from neuraldiffuser.decoders.parallel import Dropout, Share, launch
from neuraldiffuser.decoders.store import read_decoder
from neuraldiffuser.errors import ConfigError, TrainingError


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


def test_two_processes_report_once(monkeypatch, world, tmp_path):
    launched(monkeypatch, world, "clip_text", tmp_path / "run", processes=2)
    assert (tmp_path / "run/log").read_text().count("last loss") == 1


def test_an_error_in_any_process_is_the_jobs_error(monkeypatch, world, tmp_path):
    with pytest.raises(ConfigError) as error:
        launched(monkeypatch, world, "clip_text", tmp_path / "run", processes=3)
    assert str(error.value) == (
        "runtime.decoder_processes is 3, which does not divide the 8 trials that a batch takes "
        "from each subject; choose a divisor or another batch_size."
    )
