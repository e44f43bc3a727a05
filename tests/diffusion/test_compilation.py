"""The diffusion model gives what it gives as written when it is compiled."""

import shutil

import pytest
import torch
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D

from neuraldiffuser.compilation import find_differences
from neuraldiffuser.diffusion.compilation import (
    TIMESTEP,
    compile_networks,
    exclude_enlargements,
    respond,
    slope,
)
from neuraldiffuser.diffusion.memory import WHOLE_BATCH, BatchPlan, Parts
from neuraldiffuser.diffusion.models import load_latent_diffusion

PLAN = BatchPlan(3, Parts(guided=2, decoded=1))
SHAPE = (4, 8, 8)


@pytest.fixture
def fresh(path_to_stable_diffusion):
    return load_latent_diffusion(path_to_stable_diffusion)


@pytest.fixture
def compiled(monkeypatch):
    """Networks that are compiled, by a compiler that changes no arithmetic."""
    networks, whole = [], torch.nn.Module.compile
    monkeypatch.setattr(
        torch.nn.Module,
        "compile",
        lambda self, **options: networks.append(self) or whole(self, backend="eager", **options),
    )
    return networks


def test_a_compiled_model_gives_what_it_gave(fresh, compiled, batch):
    """And still reports attention, which was not asked for when it was compiled."""
    single = BatchPlan(1)  # every form takes seconds
    latents, _, condition = (part.float() for part in batch)

    def answers():
        with torch.no_grad():
            noise, attention = fresh.denoise(latents, 300, condition, attended=2)
        found = respond(fresh, single, shape=SHAPE, guided=True)
        return found | {"pair": noise, "attention": attention}

    written = answers()
    compile_networks(fresh, single, shape=SHAPE, guided=True)
    assert compiled == [fresh.denoiser.unet, fresh.autoencoder.decoder]
    for network in compiled:
        assert network._compiled_call_impl is not None
    for name, answer in answers().items():
        assert written[name].abs().max() > 1e-3
        assert torch.allclose(answer, written[name], rtol=1e-4, atol=1e-6), name


@pytest.mark.parametrize(
    ("plan", "guided", "expected"),
    [
        (PLAN, True, {"noise": 6, "image": 1, "gradient of noise": 2, "gradient of images": 1}),
        (PLAN, False, {"noise": 6, "image": 1}),
        (BatchPlan(2, WHOLE_BATCH), False, {"noise": 4, "image": 2}),
    ],
)
def test_what_is_compared_has_the_sizes_of_the_plan(fresh, plan, guided, expected):
    found = respond(fresh, plan, shape=SHAPE, guided=guided)
    assert {name: len(answer) for name, answer in found.items()} == expected


def test_gradients_are_those_of_half_the_squares(fresh):
    """Reference: autograd through both networks at once, from the same latents."""
    found = respond(fresh, PLAN, shape=SHAPE, guided=True)
    generator = torch.Generator().manual_seed(0)
    for count in (6, 1):
        torch.randn(count, *SHAPE, generator=generator)
    z, y = (torch.randn(n, *SHAPE, generator=generator).requires_grad_() for n in (2, 1))
    condition = fresh.unconditional.expand(2, -1, -1)
    squares = fresh.denoise(z, TIMESTEP, condition).noise.square().sum()
    expected = torch.autograd.grad((squares + fresh.decode(y).square().sum()) / 2, (z, y))
    assert torch.allclose(found["gradient of noise"], expected[0], rtol=1e-4, atol=1e-6)
    assert torch.allclose(found["gradient of images"], expected[1], rtol=1e-4, atol=1e-6)


class Enlarging(torch.nn.Module):
    """A residual block and an enlargement, as in both networks."""

    def __init__(self, residual, enlargement):
        super().__init__()
        self.residual = residual
        self.enlargement = enlargement

    def forward(self, x):
        return self.enlargement(self.residual(x, None))


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch compiles with g++")
def test_a_block_that_enlarges_has_its_gradient_when_compiled():
    """Compiled as a whole, torch 2.13 gives this block a gradient of zero."""
    torch.manual_seed(0)
    residual = ResnetBlock2D(in_channels=32, temb_channels=None, groups=8)
    enlargement = Upsample2D(32, use_conv=True, out_channels=32)
    block = Enlarging(residual, enlargement).requires_grad_(False)
    x = torch.randn(2, 32, 16, 16)

    def answer():
        return {"gradient": slope(block, x.clone())}

    written = answer()
    exclude_enlargements(block)
    block.compile(dynamic=False)
    assert find_differences(written, answer()) == []
