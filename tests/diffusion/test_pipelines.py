"""Without guidance by features, every step is that of diffusers' own pipelines, in float32."""

from pathlib import Path

import diffusers
import numpy as np
import peer_pipelines
import pytest
import torch
from tiny_engine import make_settings

from neuraldiffuser.diffusion.models import load_latent_diffusion
from neuraldiffuser.diffusion.sampler import Denoising, sample
from neuraldiffuser.diffusion.schedule import make_schedule

REQUIREMENTS = Path(__file__).parents[2] / "requirements.txt"
PAPERS = {
    "steps": peer_pipelines.STEPS,
    "strength": peer_pipelines.STRENGTH,
    "classifier_free_scale": peer_pipelines.CLASSIFIER_FREE,
    "self_attention_scale": peer_pipelines.SELF_ATTENTION,
    "noise_timestep": "aligned",
}
WITHOUT = PAPERS | {"self_attention_scale": 0.0}
TOLERANCE = 1e-4  # what float32 may add up to in 37 steps
WRONG = 1e-2  # what the least wrong setting has to add up to


@pytest.fixture(scope="module")
def inputs():
    return peer_pipelines.draw_inputs()


@pytest.fixture(scope="module")
def walk(path_to_stable_diffusion, scheduler, inputs):
    """Runs the library's sampler; timesteps and latents after every step."""
    model = load_latent_diffusion(path_to_stable_diffusion, dtype=torch.float32)
    model.denoiser.attention.to_q.weight.mul_(peer_pipelines.SHARPER)

    def run(stated):
        settings, trajectory = make_settings(**stated), []
        schedule = make_schedule(
            scheduler,
            steps=settings.steps,
            strength=settings.strength,
            noise_timestep=settings.noise_timestep,
        )
        sample(
            inputs.latents,
            inputs.noise,
            Denoising(model, inputs.condition, settings),
            schedule=schedule,
            on_step=lambda _index, z: trajectory.append(z.clone()),
        )
        return [step.timestep for step in schedule.steps], torch.stack(trajectory)

    return run


@pytest.fixture(scope="module")
def image_to_image(path_to_stable_diffusion, inputs):
    return peer_pipelines.run_image_to_image(path_to_stable_diffusion, inputs)


@pytest.fixture(scope="module")
def self_attention_guidance(path_to_stable_diffusion, inputs):
    return peer_pipelines.run_self_attention_guidance(path_to_stable_diffusion, inputs)


def test_every_step_is_that_of_image_to_image(walk, image_to_image):
    (timesteps, ours), (expected_timesteps, theirs) = walk(WITHOUT), image_to_image
    assert timesteps == expected_timesteps == list(range(721, 0, -20))
    assert ours.shape == theirs.shape == (37, 2, 4, 12, 10)
    assert ours.dtype == theirs.dtype == torch.float32
    assert (ours - theirs).abs().max() < TOLERANCE


def test_every_step_is_that_of_the_self_attention_guidance_pipeline(walk, self_attention_guidance):
    (timesteps, ours), (expected_timesteps, theirs) = walk(PAPERS), self_attention_guidance
    assert timesteps == expected_timesteps == list(range(721, 0, -20))
    assert ours.shape == theirs.shape == (37, 2, 4, 12, 10)
    assert (ours - theirs).abs().max() < TOLERANCE


@pytest.mark.parametrize(
    "change",
    [
        {"self_attention_scale": 0.0},
        {"self_attention_scale": 0.7},
        {"classifier_free_scale": 7.4},
        {"noise_timestep": "released"},
    ],
    ids=str,
)
def test_a_wrong_setting_leaves_the_pipeline_at_once(walk, self_attention_guidance, change):
    """Control: the comparison above can fail, and not only where errors have added up."""
    _, changed = walk(PAPERS | change)
    _, theirs = self_attention_guidance
    distances = (changed - theirs).abs().flatten(1).amax(dim=1)
    assert distances[0] > TOLERANCE
    assert distances.max() > WRONG


def test_the_recorded_steps_are_those_of_the_pipeline(walk, self_attention_guidance):
    """What is left to compare with once diffusers drops the pipeline."""
    with np.load(peer_pipelines.RECORD) as record:
        latents, version = torch.from_numpy(record["latents"]), str(record["version"])
    steps = list(peer_pipelines.RECORDED_STEPS)
    for _, trajectory in (walk(PAPERS), self_attention_guidance):
        assert (trajectory[steps, 0] - latents).abs().max() < TOLERANCE
    assert version == diffusers.__version__, peer_pipelines.__doc__
    assert f"diffusers=={version}" in REQUIREMENTS.read_text().splitlines()
