"""The engine: resumes exactly, learns what is planted, stops where numbers end."""

import dataclasses
import re
import time

import numpy as np
import pytest
import torch
from planted_world import small_recipe

from neuraldiffuser import runtime
from neuraldiffuser.config.decoder import Budget
from neuraldiffuser.decoders import training
from neuraldiffuser.decoders.architectures import build_decoder
from neuraldiffuser.decoders.data import read_trials
from neuraldiffuser.decoders.fitting import make_losses, new_decoder
from neuraldiffuser.decoders.optimisation import PRECISIONS
from neuraldiffuser.decoders.training import Run, train
from neuraldiffuser.errors import TrainingError


class Killed(BaseException):
    """What a kill looks like from inside."""


@pytest.fixture(scope="module")
def trials(world):
    paths = [world / f"voxels/{subject}.h5" for subject in ("subj02", "subj03")]
    return {
        target: read_trials(paths, world / f"targets/{target}.h5")
        for target in ("clip_text", "vae_latent")
    }


def make_run(trials, target="clip_text", **changes):
    decoder = new_decoder(target, trials[target], small_recipe(**changes))
    losses = make_losses(decoder, trials[target])
    return Run("pretraining", decoder.model, losses, trials[target], decoder.recipe)


def killed_after(losses, step):
    def until(batch, number, generator):
        if number == step:
            raise Killed
        return losses(batch, number, generator)

    return until


@pytest.mark.parametrize("target", ["clip_text", "vae_latent"])
@pytest.mark.parametrize("step", [3, 27])
def test_killed_and_resumed_ends_with_the_same_bytes(trials, tmp_path, monkeypatch, target, step):
    monkeypatch.setattr(training, "STEPS_BETWEEN_CHECKS", 5)
    whole = make_run(trials, target)
    curve = train(whole, path_to_checkpoint=tmp_path / "whole", seconds=0)
    path = tmp_path / "killed"
    killed = make_run(trials, target)
    stopping = Run(
        killed.name, killed.model, killed_after(killed.losses, step), killed.trials, killed.recipe
    )
    with pytest.raises(Killed):
        train(stopping, path_to_checkpoint=path, seconds=0)
    assert path.is_file() == (step > 5)
    torch.manual_seed(step)  # the state of the global generator must not matter
    resumed = make_run(trials, target)
    curve_of_resumed = train(resumed, path_to_checkpoint=path, seconds=0)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name
    assert curve.equals(curve_of_resumed)
    assert len(curve) == 30 and list(curve)[:3] == ["step", "learning_rate", "loss"]


def test_the_checkpoint_of_another_run_is_not_used(trials, tmp_path):
    path = tmp_path / "partial"
    train(make_run(trials), path_to_checkpoint=path, seconds=0)
    other = make_run(trials, seed=4)
    fresh = make_run(trials, seed=4)
    train(other, path_to_checkpoint=path, seconds=1e9)
    train(fresh, path_to_checkpoint=tmp_path / "none", seconds=1e9)
    for ours, theirs in zip(other.model.parameters(), fresh.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_damaged_checkpoint_is_kept_and_no_reason_to_stop(trials, tmp_path):
    path = tmp_path / "partial"
    train(make_run(trials), path_to_checkpoint=path, seconds=0)
    damaged = path.read_bytes()[:-100]
    path.write_bytes(damaged)
    assert len(train(make_run(trials), path_to_checkpoint=path)) == 30
    assert (tmp_path / "partial.damaged").read_bytes() == damaged


def test_a_checkpoint_that_cannot_be_read_now_is_not_written_over(trials, tmp_path, monkeypatch):
    path = tmp_path / "partial"
    train(make_run(trials), path_to_checkpoint=path, seconds=0)
    before = path.read_bytes()

    def fail(*_, **__):
        raise OSError("input/output error")

    monkeypatch.setattr(torch, "load", fail)
    with pytest.raises(OSError, match="input/output error"):
        train(make_run(trials), path_to_checkpoint=path, seconds=0)
    assert path.read_bytes() == before


@pytest.mark.parametrize("changed", ["code", "origin"])
def test_the_checkpoint_of_other_code_or_another_teacher_is_not_used(
    trials, tmp_path, monkeypatch, changed
):
    path, identities = tmp_path / "partial", []
    for value in ("first", "second"):
        run = make_run(trials)
        if changed == "code":
            monkeypatch.setattr(runtime, "_execution", runtime.Execution(code=value))
        else:
            run = dataclasses.replace(run, origin=value)
        train(run, path_to_checkpoint=path, seconds=0)
        identities.append(torch.load(path)["identity"])
    assert identities[0] != identities[1]


def test_float16_resumes_with_its_scale_after_an_overflow(trials, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "STEPS_BETWEEN_CHECKS", 5)
    half = small_recipe().optimiser.model_copy(update={"precision": "fp16"})

    def overflowing(step_of_kill):
        run = make_run(trials, optimiser=half)
        losses = killed_after(run.losses, step_of_kill)

        def scaled(batch, step, generator):
            found = losses(batch, step, generator)
            return found | {"loss": found["loss"] * (1e30 if step == 7 else 1.0)}

        return dataclasses.replace(run, losses=scaled)

    whole = overflowing(None)
    curve = train(whole, path_to_checkpoint=tmp_path / "whole", seconds=0)
    with pytest.raises(Killed):
        train(overflowing(17), path_to_checkpoint=tmp_path / "killed", seconds=0)
    scale = torch.load(tmp_path / "killed")["scaler"]["scale"]
    assert scale < 65536  # halved by the overflow
    resumed = overflowing(None)
    assert train(resumed, path_to_checkpoint=tmp_path / "killed").equals(curve)
    for ours, theirs in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_training_leaves_the_global_generator_alone(trials, tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train(make_run(trials), path_to_checkpoint=tmp_path / "partial")
    assert torch.equal(torch.rand(3), expected)


def test_a_loss_that_is_not_finite_stops_with_step_and_images(trials, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "STEPS_BETWEEN_CHECKS", 5)
    run = make_run(trials)

    def losses(batch, step, generator):
        found = run.losses(batch, step, generator)
        return found | {"loss": found["loss"] * (torch.nan if step == 7 else 1)}

    broken = Run(run.name, run.model, losses, run.trials, run.recipe)
    with pytest.raises(TrainingError) as error:
        train(broken, path_to_checkpoint=tmp_path / "partial", seconds=0)
    ids = run.trials.batch(7, size=16, seed=3).ids
    assert str(error.value) == (
        f"pretraining: the loss is not finite at step 8 of 30, on the images "
        f"{', '.join(map(str, ids))}; lower decoder.optimiser.learning_rate or set "
        "decoder.optimiser.precision to fp32."
    )


def test_a_training_whose_time_is_up_keeps_its_checkpoint_and_goes_on(
    trials, tmp_path, monkeypatch
):
    monkeypatch.setattr(training, "STEPS_BETWEEN_CHECKS", 5)
    whole, path = make_run(trials), tmp_path / "partial"
    train(whole, path_to_checkpoint=tmp_path / "whole")
    late = runtime.Execution(deadline=time.monotonic() + 60)
    monkeypatch.setattr(runtime, "_execution", late)
    for steps in (5, 10):
        with pytest.raises(TrainingError) as error:
            train(make_run(trials), path_to_checkpoint=path)
        assert str(error.value) == (
            f"pretraining: stopped in time after step {steps} of 30, whose checkpoint is kept; run "
            "the same command again to go on, or raise runtime.decoder_minutes."
        )
    monkeypatch.setattr(runtime, "_execution", runtime.Execution())
    resumed = make_run(trials)
    assert len(train(resumed, path_to_checkpoint=path)) == 30
    for ours, theirs in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_progress_tells_step_loss_rate_and_samples_per_second(trials, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "STEPS_BETWEEN_CHECKS", 5)
    monkeypatch.setattr(runtime, "SECONDS_BETWEEN_PROGRESS_LINES", 0.0)
    lines = []
    monkeypatch.setattr(runtime.logger, "info", lambda text, *rest: lines.append(text % rest))
    train(make_run(trials), path_to_checkpoint=tmp_path / "partial")
    pattern = (
        r"pretraining, step 20, loss [\d.]+, learning rate [\d.e-]+: 70% \(336 of 480\), "
        r"[\d.]+k? samples/s, 00:00 left"
    )
    assert any(re.fullmatch(pattern, line) for line in lines), lines


@pytest.mark.parametrize("target", ["clip_text", "vae_latent"])
def test_losses_fall(trials, tmp_path, target):
    curve = train(make_run(trials, target), path_to_checkpoint=tmp_path / "partial")
    part = "prior" if target == "clip_text" else "l1"
    assert curve[part][-5:].mean() < 0.9 * curve[part][:5].mean()
    assert np.isfinite(curve.to_numpy()).all()


def test_precision_changes_the_arithmetic(trials, tmp_path):
    curves = {}
    for precision in PRECISIONS:
        optimiser = small_recipe().optimiser.model_copy(update={"precision": precision})
        run = make_run(trials, optimiser=optimiser)
        curves[precision] = train(run, path_to_checkpoint=tmp_path / precision)
    for half in ("bf16", "fp16"):
        assert not curves[half]["loss"].equals(curves["fp32"]["loss"])
        np.testing.assert_allclose(curves[half]["loss"][0], curves["fp32"]["loss"][0], rtol=0.02)
        assert curves[half]["prior"][25:].mean() < curves[half]["prior"][:5].mean()


SHORT = Budget(epochs=2, samples_per_epoch=48, batch_size=16)


def weights_after(trials, tmp_path, target, section, changes):
    recipe = small_recipe(budget=SHORT)
    changed = getattr(recipe, section).model_copy(update=changes)
    run = make_run(trials, target, **({"budget": SHORT} | {section: changed}))
    train(run, path_to_checkpoint=tmp_path / "none", seconds=1e9)
    return torch.cat([parameter.detach().flatten() for parameter in run.model.parameters()])


@pytest.mark.parametrize(
    ("target", "section", "changes"),
    [
        ("clip_text", "optimiser", {"learning_rate": 2e-2}),
        ("clip_text", "optimiser", {"weight_decay": 0.5}),
        ("clip_text", "optimiser", {"voxel_weight_decay": 0.5}),
        ("clip_text", "optimiser", {"warmup_fraction": 0.6}),
        ("clip_text", "optimiser", {"final_division": 2}),
        ("clip_text", "optimiser", {"decay_groups": "matrices"}),
        ("clip_text", "network", {"dropout": 0.4}),
        ("clip_text", "network", {"input_dropout": 0.4}),
        ("clip_text", "prior", {"timesteps": 50}),
        ("clip_text", "prior", {"rotary_size": 2}),
        ("clip_text", "prior", {"prediction": "target"}),
        ("clip_text", "budget", {"epochs": 3}),
        ("clip_text", "budget", {"samples_per_epoch": 64}),
        ("clip_text", "budget", {"batch_size": 12}),
        ("vae_latent", "low_level", {"encoder_dropout": 0.4}),
        ("vae_latent", "low_level", {"dropout": 0.4}),
        ("vae_latent", "low_level", {"upsampler_groups": 2}),
    ],
)
def test_every_setting_changes_the_weights(trials, tmp_path, target, section, changes):
    usual = weights_after(trials, tmp_path, target, section, {})
    assert not torch.equal(weights_after(trials, tmp_path, target, section, changes), usual)


@pytest.mark.parametrize(
    ("target", "section", "changes"),
    [
        ("clip_text", "network", {"hidden_size": 16}),
        ("clip_text", "network", {"blocks": 3}),
        ("clip_text", "prior", {"depth": 2}),
        ("clip_text", "prior", {"head_size": 8}),
        ("clip_text", "prior", {"feedforward_factor": 3}),
        ("vae_latent", "low_level", {"maps_channels": 16}),
        ("vae_latent", "low_level", {"upsampler_channels": (8, 16)}),
        ("vae_latent", "low_level", {"teacher": "autoencoder"}),
    ],
)
def test_every_size_changes_the_network(target, section, changes):
    def shapes(update):
        section_changed = getattr(small_recipe(), section).model_copy(update=update)
        with torch.device("meta"):
            model = build_decoder(
                target,
                {"clip_text": (3, 8), "vae_latent": (4, 8, 8)}[target],
                voxel_counts={"subj01": 4},
                recipe=small_recipe(**{section: section_changed}),
            )
        return {name: value.shape for name, value in model.state_dict().items()}

    assert shapes(changes) != shapes({})
