"""Noise levels and timesteps of the reverse diffusion that is run, and which steps are guided.

Read from the scheduler folder of the model through diffusers' DDIMScheduler, so that another
model's schedule needs no code here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from neuraldiffuser import storage
from neuraldiffuser.errors import ConfigError, DataError


@dataclass(frozen=True)
class Step:
    """One DDIM step, from noise level `alpha_bar` at `timestep` to `alpha_bar_next`."""

    timestep: int
    alpha_bar: float
    alpha_bar_next: float


@dataclass(frozen=True)
class Schedule:
    """The steps that are run, noisiest first, and the noise level the latent starts from."""

    alpha_bar_start: float
    steps: tuple[Step, ...]

    def until(self, index: int) -> Schedule:
        """The same start, but only the steps before `index`."""
        return replace(self, steps=self.steps[:index])


def load_scheduler(path_to_stable_diffusion: Path):
    """The DDIMScheduler behind `scheduler/scheduler_config.json` of a diffusers folder.

    Raises:
        DataError: the file is missing, or asks for what this sampler does not do.
    """
    import neuraldiffuser.torchvision_schemas  # noqa: F401  before diffusers

    from diffusers import DDIMScheduler

    folder = Path(path_to_stable_diffusion) / "scheduler"
    if not (folder / "scheduler_config.json").is_file():
        raise DataError(
            f"{folder}/scheduler_config.json is missing; models.stable_diffusion must name a folder"
            " in the diffusers layout."
        )
    refuse_incomplete(storage.read_json(folder / "scheduler_config.json"), folder)
    scheduler = DDIMScheduler.from_pretrained(folder, local_files_only=True)
    refuse_unsupported(scheduler, folder)
    return scheduler


def refuse_incomplete(stated: Mapping, folder: Path) -> None:
    """Raises DataError if the file leaves open what diffusers would fill in otherwise than meant.

    Copies of Stable Diffusion v1.4 from 2022 do: its pipeline mended them, a scheduler does not.
    """
    for key, published in {
        "steps_offset": 1,
        "set_alpha_to_one": False,
        "clip_sample": False,
    }.items():
        if key not in stated:
            raise DataError(
                f"{folder}/scheduler_config.json does not state {key}; fetch today's file, or add"
                f' "{key}": {json.dumps(published)}, which stable-diffusion-v1-4 states.'
            )


def refuse_unsupported(scheduler, folder: Path) -> None:
    """Raises DataError unless the model predicts noise and its estimates are not clipped."""
    expected = {"prediction_type": "epsilon", "clip_sample": False, "thresholding": False}
    for key, value in expected.items():
        if scheduler.config[key] != value:
            raise DataError(
                f"{folder}/scheduler_config.json has {key} {scheduler.config[key]}, but the guided"
                f" sampler needs {value}; use a model such as stable-diffusion-v1-4."
            )


def count_steps(steps: int, strength: float) -> int:
    """How many of `steps` are run: int(0.75 x 50) = 37 in the paper."""
    return int(strength * steps)


def aligned_alpha_bar(scheduler, timesteps: list[int], _steps: int) -> float:
    """Noise level of the first step that is run."""
    return float(scheduler.alphas_cumprod[timesteps[0]])


def released_alpha_bar(scheduler, timesteps: list[int], steps: int) -> float:
    """Noise level at int(37 / 50 x 1000) = 740, nineteen timesteps noisier than the first step."""
    trained = scheduler.config.num_train_timesteps
    return float(scheduler.alphas_cumprod[min(len(timesteps) * trained // steps, trained - 1)])


NOISE_TIMESTEPS: dict[str, Callable] = {
    "aligned": aligned_alpha_bar,
    "released": released_alpha_bar,
}


def make_schedule(scheduler, *, steps: int, strength: float, noise_timestep: str) -> Schedule:
    """The last int(strength x steps) of `steps` DDIM steps.

    Args:
        scheduler: diffusers' DDIMScheduler; it is not changed.
        steps: DDIM steps of a whole reverse diffusion.
        strength: share of them that is run.
        noise_timestep: a key of NOISE_TIMESTEPS, where the latent starts from.

    Raises:
        ConfigError: the strength leaves no step.
    """
    used = count_steps(steps, strength)
    if not used:
        raise ConfigError(
            f"reconstruction.strength {strength} of {steps} steps leaves none to run; raise either."
        )
    own = type(scheduler).from_config(scheduler.config)
    own.set_timesteps(steps)
    timesteps = own.timesteps.tolist()[-used:]
    stride = own.config.num_train_timesteps // steps
    return Schedule(
        alpha_bar_start=NOISE_TIMESTEPS[noise_timestep](own, timesteps, steps),
        steps=tuple(make_step(own, timestep, timestep - stride) for timestep in timesteps),
    )


def make_step(scheduler, timestep: int, following: int) -> Step:
    """The step from `timestep` to `following`; below zero the chain ends at the final level."""
    final = scheduler.final_alpha_cumprod
    after = scheduler.alphas_cumprod[following] if following >= 0 else final
    return Step(timestep, float(scheduler.alphas_cumprod[timestep]), float(after))


def first_steps(_count: int, guided: int) -> range:
    """The noisiest `guided` steps: the paper's text and the authors' code."""
    return range(guided)


def last_steps(count: int, guided: int) -> range:
    """The cleanest `guided` steps: Algorithm 1 as printed."""
    return range(count - guided, count)


GUIDED_STEPS: dict[str, Callable[[int, int], range]] = {"first": first_steps, "last": last_steps}


def choose_guided_steps(count: int, *, strength: float, which: str) -> range:
    """Indices of the guided steps: int(strength x count) of them (7 of 37 at eta 0.2)."""
    return GUIDED_STEPS[which](count, int(strength * count))
