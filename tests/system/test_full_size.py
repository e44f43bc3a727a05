"""One guided step of the whole of Stable Diffusion v1.4, with random weights, within 12 GB.

The denoiser's file is in half precision, as the repository's branch fp16 has it; everything is
computed in bfloat16, which takes three minutes, or ten on processors that lack its instructions.
"""

import resource
import shutil

import full_size_models
import pytest
import torch
from safetensors.torch import load_file
from tiny_engine import make_source

from neuraldiffuser.config.reconstruction import Reconstruction
from neuraldiffuser.config.targets import ClipImageSettings
from neuraldiffuser.diffusion.guidance.clip_layers import build_clip_layers
from neuraldiffuser.diffusion.models import load_latent_diffusion
from neuraldiffuser.diffusion.sampler import Denoising, add_noise, ddim_step, guided_noise
from neuraldiffuser.diffusion.schedule import load_scheduler, make_schedule

pytestmark = pytest.mark.system
LARGEST_GIB = 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("full-size")
    full_size_models.write_stable_diffusion(folder / "stable-diffusion-v1-4")
    full_size_models.write_unet(folder / "stable-diffusion-v1-4" / "unet", dtype=torch.float16)
    full_size_models.write_clip(folder / "clip-vit-b-32", "ViT-B-32-quickgelu")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def model(folder):
    return load_latent_diffusion(folder / "stable-diffusion-v1-4", dtype=torch.bfloat16)


@pytest.fixture
def inputs():
    """A latent, noise and a condition of one sample."""
    generator = torch.Generator().manual_seed(1)
    shapes = ((1, 4, 64, 64), (1, 4, 64, 64), (1, 77, 768))
    return [torch.randn(shape, generator=generator) for shape in shapes]


@torch.no_grad()
def test_the_denoiser_is_the_plain_network_with_the_files_weights(folder, model, inputs):
    from diffusers import UNet2DConditionModel

    unet = model.denoiser.unet
    assert sum(parameter.numel() for parameter in unet.parameters()) == 859_520_964
    assert {parameter.dtype for parameter in unet.parameters()} == {torch.bfloat16}
    latents, _noise, condition = inputs
    noise, attention = model.denoise(latents, 721, condition, attended=1)
    assert noise.shape == (1, 4, 64, 64) and attention.shape == (1, 8, 8)

    path = folder / "stable-diffusion-v1-4/unet/diffusion_pytorch_model.safetensors"
    weights = {name: tensor.bfloat16() for name, tensor in load_file(path).items()}
    with torch.device("meta"):
        plain = UNet2DConditionModel(sample_size=64, cross_attention_dim=768)
    plain.load_state_dict(weights, assign=True)
    expected = plain.eval()(latents.bfloat16(), 721, condition.bfloat16()).sample.float()
    torch.testing.assert_close(noise, expected)
    assert noise.std() > 0.1


def test_one_guided_step_fits_into_memory(folder, model, inputs, capsys):
    reconstruction = Reconstruction(precision="bfloat16")
    guidance = build_clip_layers(
        make_source(folder / "clip-vit-b-32", ClipImageSettings(), reconstruction)
    )
    latents, noise, condition = inputs
    wanted = {name: torch.ones(1, 50, 768) for name in guidance.targets}
    losses = []

    def loss(images):
        assert images.shape == (1, 3, 512, 512)
        losses.append(guidance(images, wanted))
        return losses[-1]

    step, *others = make_schedule(
        load_scheduler(folder / "stable-diffusion-v1-4"),
        steps=reconstruction.steps,
        strength=reconstruction.strength,
        noise_timestep=reconstruction.noise_timestep,
    ).steps
    assert (step.timestep, len(others)) == (721, 36)
    z = add_noise(latents, noise, step.alpha_bar)
    removed, term = guided_noise(z, step, Denoising(model, condition, reconstruction), loss)
    following = ddim_step(z, removed + term, step)
    assert removed.shape == term.shape == following.shape == (1, 4, 64, 64)
    assert following.isfinite().all() and term.abs().max() > 0
    assert losses[0].shape == (1,)

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    with capsys.disabled():
        print(f"\nlargest resident memory: {peak:.1f} GiB")
    assert peak < LARGEST_GIB
