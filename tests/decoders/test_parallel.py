"""Processes that share a batch reach what one process reaches, and fail as one."""

import signal
import time

import numpy as np
import pandas as pd
import pytest
import torch
from parallel_jobs import fail_alone, train_pair, train_when_told_to_stop, write_gradients
from torch.multiprocessing import ProcessRaisedException

from neuraldiffuser import runtime
from neuraldiffuser.decoders.parallel import Dropout, Share, launch
from neuraldiffuser.decoders.store import read_decoder
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


def launched(monkeypatch, world, target, folder, job=train_pair, **execution):
    folder.mkdir(exist_ok=True)
    granted = runtime.Execution(label="test", log=str(folder / "log"), **execution)
    monkeypatch.setattr(runtime, "_execution", granted)
    launch(job, world=world, target=target, folder=folder)
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
    with pytest.raises(TrainingError, match="stopped in time after step 25 of 30"):
        launched(monkeypatch, world, "clip_text", folder, deadline=time.monotonic(), **pair)
    assert [path.name for path in folder.iterdir() if path.name != "log"] == [
        "decoder.safetensors.partial"
    ]
    resumed, again = launched(monkeypatch, world, "clip_text", folder, **pair)
    np.testing.assert_array_equal(resumed, whole)
    assert torch.equal(again, weights)


@pytest.mark.parametrize("processes", [1, 2])
def test_processes_that_are_told_to_stop_keep_a_checkpoint(monkeypatch, world, tmp_path, processes):
    place = (monkeypatch, world, "clip_text")
    _, weights = launched(*place, tmp_path / "whole", processes=processes)
    folder, otherwise = tmp_path / "told", signal.getsignal(signal.SIGTERM)
    with pytest.raises(TrainingError, match="stopped in time after step 25 of 30, whose checkpoin"):
        launched(*place, folder, job=train_when_told_to_stop, processes=processes)
    assert signal.getsignal(signal.SIGTERM) == otherwise
    assert (folder / "decoder.safetensors.partial").exists()
    _, again = launched(*place, folder, processes=processes)
    assert torch.equal(again, weights)


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
