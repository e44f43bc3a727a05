"""Tiny models in the real folder layouts, loaded once, and embeddings that fit them."""

from pathlib import Path

import pytest
import tiny_models
import torch
from tiny_engine import CLIP_IMAGE, make_source

from neuraldiffuser.config.targets import ClipImageSettings
from neuraldiffuser.diffusion.guidance.clip_layers import build_clip_layers
from neuraldiffuser.diffusion.models import load_latent_diffusion
from neuraldiffuser.diffusion.schedule import load_scheduler


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def path_to_stable_diffusion(tmp_path_factory) -> Path:
    return tiny_models.write_stable_diffusion(tmp_path_factory.mktemp("stable-diffusion"))


@pytest.fixture(scope="session")
def path_to_clip(tmp_path_factory) -> Path:
    return tiny_models.write_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="session")
def model(path_to_stable_diffusion):
    """The tiny latent diffusion in float64, attending unevenly enough to have a mask."""
    loaded = load_latent_diffusion(path_to_stable_diffusion, dtype=torch.float64)
    loaded.denoiser.attention.to_q.weight.mul_(20)
    return loaded


@pytest.fixture(scope="session")
def scheduler(path_to_stable_diffusion):
    return load_scheduler(path_to_stable_diffusion)


@pytest.fixture(scope="session")
def clip_image() -> ClipImageSettings:
    return CLIP_IMAGE


@pytest.fixture(scope="session")
def guidance(path_to_clip, clip_image):
    """Sum of squares over CLIP layers, float64."""
    function = build_clip_layers(make_source(path_to_clip, clip_image))
    function.network.double()
    return function


@pytest.fixture
def batch():
    """Latents, noise and condition of two samples, float64, on the tiny models' shapes."""
    generator = torch.Generator().manual_seed(3)

    def draw(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    return (
        draw(2, *tiny_models.LATENT_SHAPE),
        draw(2, *tiny_models.LATENT_SHAPE),
        draw(2, *tiny_models.TEXT_SHAPE),
    )
