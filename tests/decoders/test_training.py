"""The engine: resumes exactly, learns what is planted, stops where numbers end."""

import numpy as np
import pytest
import torch
from planted_world import small_recipe
from torch.optim.lr_scheduler import OneCycleLR

from neuraldiffuser.config.decoder import Budget, Optimiser
from neuraldiffuser.decoders import training
from neuraldiffuser.decoders.architectures import build_decoder
from neuraldiffuser.decoders.data import read_trials
from neuraldiffuser.decoders.fitting import make_losses, new_decoder
from neuraldiffuser.decoders.training import DECAY_GROUPS, Run, make_optimiser, make_schedule, train
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
    killed = Run(*[*vars(killed).values()])
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


def test_a_damaged_checkpoint_is_no_reason_to_stop(trials, tmp_path):
    (tmp_path / "partial").write_bytes(b"no checkpoint")
    assert len(train(make_run(trials), path_to_checkpoint=tmp_path / "partial")) == 30


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


@pytest.mark.parametrize("target", ["clip_text", "vae_latent"])
def test_losses_fall(trials, tmp_path, target):
    curve = train(make_run(trials, target), path_to_checkpoint=tmp_path / "partial")
    part = "prior" if target == "clip_text" else "l1"
    assert curve[part][-5:].mean() < 0.9 * curve[part][:5].mean()
    assert np.isfinite(curve.to_numpy()).all()


def test_precision_changes_the_arithmetic(trials, tmp_path):
    curves = {}
    for precision in training.PRECISIONS:
        optimiser = small_recipe().optimiser.model_copy(update={"precision": precision})
        run = make_run(trials, optimiser=optimiser)
        curves[precision] = train(run, path_to_checkpoint=tmp_path / precision)
    assert not curves["bf16"]["loss"].equals(curves["fp32"]["loss"])
    np.testing.assert_allclose(curves["bf16"]["loss"][0], curves["fp32"]["loss"][0], rtol=0.02)


def names_by_decay(groups):
    with torch.device("meta"):
        model = build_decoder(
            "clip_text", (3, 8), voxel_counts={"subj01": 4}, recipe=small_recipe()
        )
    return DECAY_GROUPS[groups](model)


def test_released_groups_exempt_only_what_is_called_bias_outside_the_voxel_encoders():
    decaying, exempt = names_by_decay("released")
    assert "voxel_encoder.encoders.subj01.bias" in decaying
    assert "projector.0.weight" in decaying  # a normalisation's gain
    assert "prior.norm.gain" in decaying and "prior.null_brain" in decaying
    assert "backbone.output.bias" in exempt and "projector.0.bias" in exempt
    assert all("bias" in name for name in exempt)


def test_matrix_groups_exempt_gains_and_biases():
    decaying, exempt = names_by_decay("matrices")
    assert "voxel_encoder.encoders.subj01.bias" in exempt and "prior.norm.gain" in exempt
    assert "backbone.output.weight" in decaying


def test_each_group_has_its_decay():
    with torch.device("meta"):
        model = build_decoder(
            "clip_text", (3, 8), voxel_counts={"subj01": 4}, recipe=small_recipe()
        )
    settings = Optimiser(weight_decay=0.1, voxel_weight_decay=0.2, decay_groups="matrices")
    optimiser = make_optimiser(model, settings)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decays = {
        names[id(parameter)]: group["weight_decay"]
        for group in optimiser.param_groups
        for parameter in group["params"]
    }
    assert decays["voxel_encoder.encoders.subj01.weight"] == 0.2
    assert decays["backbone.output.weight"] == 0.1
    assert decays["backbone.output.bias"] == 0
    assert set(decays) == set(names.values())


def test_the_schedule_is_torchs_one_cycle_with_the_released_numbers():
    def rates(make):
        parameter = torch.nn.Parameter(torch.zeros(1))
        optimiser = torch.optim.AdamW([parameter], lr=3e-4)
        schedule, found = make(optimiser), []
        for _ in range(300):
            found.append((optimiser.param_groups[0]["lr"], optimiser.param_groups[0]["betas"][0]))
            optimiser.step()
            schedule.step()
        return found

    released = rates(
        lambda optimiser: OneCycleLR(
            optimiser, max_lr=3e-4, total_steps=300, final_div_factor=1000, pct_start=2 / 150
        )
    )
    assert rates(lambda optimiser: make_schedule(optimiser, Optimiser(), steps=300)) == released
    assert max(rate for rate, _ in released) == pytest.approx(3e-4)


@pytest.mark.parametrize("steps", [1, 2, 3, 7])
def test_short_schedules_exist(steps):
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.AdamW([parameter], lr=3e-4)
    schedule = make_schedule(optimiser, Optimiser(), steps=steps)
    for _ in range(steps):
        optimiser.step()
        schedule.step()
    assert np.isfinite(schedule.get_last_lr()).all()


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
