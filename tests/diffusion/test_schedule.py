"""Timesteps and noise levels against the numbers read in the authors' code and in diffusers."""

import json
import math

import pytest
import torch
from tiny_engine import make_engine, make_settings

from neuraldiffuser.diffusion.schedule import (
    GUIDED_STEPS,
    NOISE_TIMESTEPS,
    choose_guided_steps,
    load_scheduler,
    make_schedule,
)
from neuraldiffuser.errors import ConfigError, DataError


def paper_schedule(scheduler, noise_timestep="aligned"):
    return make_schedule(scheduler, steps=50, strength=0.75, noise_timestep=noise_timestep)


def test_the_paper_runs_37_steps_from_timestep_721(scheduler):
    timesteps = [step.timestep for step in paper_schedule(scheduler).steps]
    assert timesteps == list(range(721, 0, -20))
    assert len(timesteps) == 37


def test_noise_levels_of_the_first_step_and_of_the_start(scheduler):
    # 0.0705 and 0.0608: spec of the released code, computed from its scaled_linear betas
    assert paper_schedule(scheduler, "aligned").alpha_bar_start == pytest.approx(0.0705, abs=5e-5)
    assert paper_schedule(scheduler, "released").alpha_bar_start == pytest.approx(0.0608, abs=5e-5)


@pytest.mark.parametrize("noise_timestep", NOISE_TIMESTEPS)
@pytest.mark.parametrize(("steps", "strength"), [(50, 0.75), (10, 1.0), (500, 1.0), (3, 0.4)])
def test_a_schedule_runs_downhill_to_the_final_level(scheduler, noise_timestep, steps, strength):
    schedule = make_schedule(
        scheduler, steps=steps, strength=strength, noise_timestep=noise_timestep
    )
    levels = [step.alpha_bar for step in schedule.steps]
    assert levels == sorted(levels)
    assert [step.alpha_bar_next for step in schedule.steps[:-1]] == levels[1:]
    assert schedule.alpha_bar_start <= levels[0]
    assert len(schedule.steps) == int(steps * strength)


def test_noise_levels_follow_the_betas(scheduler):
    betas = torch.linspace(math.sqrt(0.00085), math.sqrt(0.012), 1000, dtype=torch.float64) ** 2
    expected = torch.cumprod(1 - betas, dim=0)
    for step in paper_schedule(scheduler).steps:
        assert step.alpha_bar == pytest.approx(float(expected[step.timestep]), rel=1e-5)


@pytest.mark.parametrize(
    ("strength", "guided"), [(0.1, 3), (0.2, 7), (0.4, 14), (0.6, 22), (0.8, 29), (1.0, 37), (0, 0)]
)
def test_eta_counts_steps_as_the_authors_code_does(strength, guided):
    assert choose_guided_steps(37, strength=strength, which="first") == range(guided)
    assert choose_guided_steps(37, strength=strength, which="last") == range(37 - guided, 37)


def test_first_and_last_differ():
    chosen = [choose_guided_steps(37, strength=0.2, which=which) for which in GUIDED_STEPS]
    assert chosen[0] != chosen[1]


def test_until_keeps_the_start(scheduler):
    schedule = paper_schedule(scheduler)
    assert schedule.until(5).steps == schedule.steps[:5]
    assert schedule.until(5).alpha_bar_start == schedule.alpha_bar_start


def test_a_strength_without_a_step_is_refused(scheduler):
    with pytest.raises(ConfigError) as error:
        make_schedule(scheduler, steps=3, strength=0.3, noise_timestep="aligned")
    assert str(error.value) == (
        "reconstruction.strength 0.3 of 3 steps leaves none to run; raise either."
    )


def test_making_a_schedule_leaves_the_scheduler_alone(scheduler):
    before = scheduler.timesteps.clone()
    paper_schedule(scheduler)
    assert torch.equal(scheduler.timesteps, before)


def test_a_missing_scheduler_is_named(tmp_path):
    with pytest.raises(DataError) as error:
        load_scheduler(tmp_path)
    assert str(error.value) == (
        f"{tmp_path}/scheduler/scheduler_config.json is missing; models.stable_diffusion must name"
        " a folder in the diffusers layout."
    )


def test_a_model_that_predicts_velocity_is_refused(scheduler, tmp_path):
    folder = tmp_path / "scheduler"
    scheduler.save_pretrained(folder)
    path = folder / "scheduler_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"prediction_type": "v_prediction"}))
    with pytest.raises(DataError, match="prediction_type v_prediction.*needs epsilon"):
        load_scheduler(tmp_path)


@pytest.mark.parametrize(
    ("key", "published"),
    [("steps_offset", "1"), ("set_alpha_to_one", "false"), ("clip_sample", "false")],
)
def test_a_file_of_2022_that_leaves_a_choice_open_is_refused(scheduler, tmp_path, key, published):
    folder = tmp_path / "scheduler"
    scheduler.save_pretrained(folder)
    path = folder / "scheduler_config.json"
    stated = json.loads(path.read_text())
    del stated[key]
    path.write_text(json.dumps(stated))
    with pytest.raises(DataError) as error:
        load_scheduler(tmp_path)
    assert str(error.value) == (
        f'{path} does not state {key}; fetch today\'s file, or add "{key}": {published}, which'
        " stable-diffusion-v1-4 states."
    )


def test_a_broken_scheduler_file_is_refused(tmp_path):
    path = tmp_path / "scheduler" / "scheduler_config.json"
    path.parent.mkdir()
    path.write_text("{")
    with pytest.raises(DataError, match="scheduler_config.json is no valid JSON"):
        load_scheduler(tmp_path)


def test_stable_diffusions_own_scheduler_file_is_read_as_ddim(scheduler, tmp_path):
    """The published folder names PNDMScheduler; its betas are what counts."""
    folder = tmp_path / "scheduler"
    folder.mkdir()
    published = {
        "_class_name": "PNDMScheduler",
        "_diffusers_version": "0.2.2",
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "clip_sample": False,
        "num_train_timesteps": 1000,
        "set_alpha_to_one": False,
        "skip_prk_steps": True,
        "steps_offset": 1,
        "trained_betas": None,
    }
    (folder / "scheduler_config.json").write_text(json.dumps(published))
    assert paper_schedule(load_scheduler(tmp_path)) == paper_schedule(scheduler)


def test_the_engine_uses_the_settings_schedule(model, scheduler):
    assert len(make_engine(model, scheduler, make_settings(steps=10)).schedule.steps) == 7
    assert len(make_engine(model, scheduler, make_settings(strength=0.5)).schedule.steps) == 4
