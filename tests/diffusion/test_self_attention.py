"""Self-attention guidance against diffusers' SAG pipeline, part by part and as a whole."""

import numpy as np
import pytest
import scipy.ndimage
import torch
from diffusers.pipelines.deprecated.stable_diffusion_sag import (
    pipeline_stable_diffusion_sag as peer,
)
from tiny_engine import make_settings

from neuraldiffuser.diffusion.sampler import Denoising, add_noise, sample
from neuraldiffuser.diffusion.schedule import Step, make_schedule
from neuraldiffuser.diffusion.self_attention import (
    attention_mask,
    blur_matrix,
    degrade,
    gaussian_blur,
)


@pytest.mark.parametrize("size", [(8, 8), (64, 64), (9, 12)])
def test_blur_is_that_of_diffusers(size):
    images = torch.randn(2, 4, *size, generator=torch.Generator().manual_seed(0))
    expected = peer.gaussian_blur_2d(images, kernel_size=9, sigma=1.0)
    assert torch.allclose(gaussian_blur(images), expected, atol=1e-6)


def test_blur_is_a_gaussian_filter_also_where_it_is_wider_than_the_latent():
    images = np.random.default_rng(0).standard_normal((1, 1, 3, 4))
    blurred = gaussian_blur(torch.from_numpy(images))[0, 0].numpy()
    expected = scipy.ndimage.gaussian_filter(images[0, 0], sigma=1.0, mode="mirror", truncate=4.0)
    assert np.allclose(blurred, expected, atol=1e-12)
    assert np.allclose(blur_matrix(3).sum(axis=1), 1)


def test_mask_marks_places_above_their_share():
    received = torch.tensor([[[0.5, 1.5], [1.0, 1.01]]])
    mask = attention_mask(received, (4, 4))
    assert mask.shape == (1, 1, 4, 4)
    assert mask[0, 0].tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 1, 1]]


def test_nothing_attended_leaves_the_latents_alone():
    z, noise = torch.randn(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0)).double()
    same = degrade(z, noise, attention=torch.zeros(1, 4, 4), step=Step(500, 0.3, 0.4))
    assert torch.allclose(same, z, atol=1e-12)


def make_pipeline(path_to_stable_diffusion, model, scheduler):
    """Diffusers' own pipeline around the very same networks."""
    from transformers import CLIPTextModel, CLIPTokenizer

    return peer.StableDiffusionSAGPipeline(
        vae=model.autoencoder,
        text_encoder=CLIPTextModel.from_pretrained(
            path_to_stable_diffusion / "text_encoder", dtype=torch.float64
        ),
        tokenizer=CLIPTokenizer.from_pretrained(path_to_stable_diffusion / "tokenizer"),
        unet=model.denoiser.unet,
        scheduler=type(scheduler).from_config(scheduler.config),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


@pytest.mark.parametrize("self_attention_scale", [0.75, 2.0])
def test_sampling_equals_the_sag_pipeline(
    path_to_stable_diffusion, model, scheduler, batch, self_attention_scale
):
    latents, noise, condition = batch
    schedule = make_schedule(scheduler, steps=6, strength=1.0, noise_timestep="aligned")
    settings = make_settings(self_attention_scale=self_attention_scale)
    ours = sample(latents, noise, Denoising(model, condition, settings), schedule=schedule)
    pipeline = make_pipeline(path_to_stable_diffusion, model, scheduler)
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(
        prompt_embeds=condition,
        negative_prompt_embeds=model.unconditional.expand_as(condition),
        latents=add_noise(latents, noise, schedule.alpha_bar_start),
        num_inference_steps=6,
        guidance_scale=settings.classifier_free_scale,
        sag_scale=self_attention_scale,
        output_type="latent",
        height=32,
        width=32,
    ).images
    without = make_settings(self_attention_scale=0)
    unsteered = sample(latents, noise, Denoising(model, condition, without), schedule=schedule)
    # Both keep their noise levels in float32; the guidance itself moves latents far more.
    assert (ours - theirs).abs().max() < 1e-4
    assert (ours - unsteered).abs().max() > 1e-2
