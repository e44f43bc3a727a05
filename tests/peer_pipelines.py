"""Diffusers' own pipelines on the tiny model, and the latents they leave after every step.

Diffusers lists the self-attention guidance pipeline among its deprecated ones. What it computes is
therefore recorded too, by

    PYTHONPATH=workflow_scripts python tests/peer_pipelines.py

with the version that requirements.txt pins.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import neuraldiffuser.torchvision_schemas  # noqa: F401  before diffusers

import diffusers
import numpy as np
import tiny_models
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionImg2ImgPipeline,
    UNet2DConditionModel,
)
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

RECORD = Path(__file__).parent / "recorded" / "sag.npz"
STEPS, STRENGTH, CLASSIFIER_FREE, SELF_ATTENTION = 50, 0.75, 7.5, 0.75
RECORDED_STEPS = (0, 6, 12, 18, 24, 30, 36)
SHARPER = 20  # attention of random weights is even; this much sharper it has a mask


@dataclass(frozen=True)
class Inputs:
    """Decoded latents, noise and condition of two samples, float32; the maps are oblong."""

    latents: Tensor
    noise: Tensor
    condition: Tensor


def draw_inputs() -> Inputs:
    """The same at every call; the noise is what the pipeline draws from seed 5."""
    generator = torch.Generator().manual_seed(4)
    latents = torch.randn(2, 4, 12, 10, generator=generator)
    condition = torch.randn(2, *tiny_models.TEXT_SHAPE, generator=generator)
    return Inputs(latents, torch.randn(latents.shape, generator=pipeline_generator()), condition)


def pipeline_generator() -> torch.Generator:
    """What image-to-image draws its noise from."""
    return torch.Generator().manual_seed(5)


def load_components(folder: Path) -> dict:
    """The networks of a folder in the layout of diffusers, float32, by their names there."""
    unet = UNet2DConditionModel.from_pretrained(folder / "unet")
    attention = unet.mid_block.attentions[0].transformer_blocks[0].attn1
    with torch.no_grad():
        attention.to_q.weight.mul_(SHARPER)
    return {
        "vae": AutoencoderKL.from_pretrained(folder / "vae"),
        "text_encoder": CLIPTextModel.from_pretrained(folder / "text_encoder"),
        "tokenizer": CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        "unet": unet,
        "scheduler": LastSteps.from_pretrained(folder / "scheduler"),
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
    }


class LastSteps(DDIMScheduler):
    """Only the steps that image-to-image runs: the pipeline for text runs all it is given."""

    def set_timesteps(self, steps, device=None):
        super().set_timesteps(steps, device)
        self.timesteps = self.timesteps[-int(STRENGTH * steps) :]


def run_image_to_image(folder: Path, inputs: Inputs) -> tuple[list[int], Tensor]:
    """StableDiffusionImg2ImgPipeline: timesteps and latents (steps, n, c, h, w)."""
    components = load_components(folder)
    components["scheduler"] = DDIMScheduler.from_config(components["scheduler"].config)
    pipeline = StableDiffusionImg2ImgPipeline(**components)
    pipeline.set_progress_bar_config(disable=True)
    timesteps, trajectory = [], []

    def record(_pipeline, _index, timestep, tensors):
        timesteps.append(int(timestep))
        trajectory.append(tensors["latents"].clone())
        return tensors

    pipeline(
        prompt_embeds=inputs.condition,
        image=inputs.latents,
        strength=STRENGTH,
        num_inference_steps=STEPS,
        guidance_scale=CLASSIFIER_FREE,
        generator=pipeline_generator(),
        output_type="latent",
        callback_on_step_end=record,
    )
    return timesteps, torch.stack(trajectory)


def run_self_attention_guidance(folder: Path, inputs: Inputs) -> tuple[list[int], Tensor]:
    """StableDiffusionSAGPipeline from the same noised latents, over the same timesteps."""
    pipeline = import_sag().StableDiffusionSAGPipeline(**load_components(folder))
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler.set_timesteps(STEPS)
    first = pipeline.scheduler.timesteps[:1]
    timesteps, trajectory = [], []

    def record(_index, timestep, latents):
        timesteps.append(int(timestep))
        trajectory.append(latents.clone())

    pipeline(
        prompt_embeds=inputs.condition,
        latents=pipeline.scheduler.add_noise(inputs.latents, inputs.noise, first),
        num_inference_steps=STEPS,
        guidance_scale=CLASSIFIER_FREE,
        sag_scale=SELF_ATTENTION,
        output_type="latent",
        callback=record,
    )
    return timesteps, torch.stack(trajectory)


def import_sag():
    """The module of the deprecated pipeline."""
    try:
        from diffusers.pipelines.deprecated.stable_diffusion_sag import (
            pipeline_stable_diffusion_sag as sag,
        )
    except ImportError as error:
        raise ImportError(
            f"diffusers {diffusers.__version__} no longer ships StableDiffusionSAGPipeline; remove"
            f" the comparisons with it and keep the one with {RECORD}."
        ) from error
    return sag


def record() -> None:
    """Writes what self-attention guidance left of the first sample after some of the steps."""
    with tempfile.TemporaryDirectory() as folder:
        written = tiny_models.write_stable_diffusion(Path(folder))
        _, trajectory = run_self_attention_guidance(written, draw_inputs())
    RECORD.parent.mkdir(exist_ok=True)
    np.savez_compressed(
        RECORD, latents=trajectory[list(RECORDED_STEPS), 0].numpy(), version=diffusers.__version__
    )


if __name__ == "__main__":
    record()
