"""The diffusion model gives what it gives as written when it is compiled."""

import shutil

import numpy as np
import pytest
import torch
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D
from tiny_engine import guided_by, in_float32, make_embeddings, make_engine, make_settings

from neuraldiffuser.compilation import GRADIENT_TOLERANCE, find_differences
from neuraldiffuser.diffusion import reconstruct
from neuraldiffuser.diffusion.compilation import compile_networks, exclude_enlargements, respond
from neuraldiffuser.diffusion.guidance import Guidance
from neuraldiffuser.diffusion.memory import WHOLE_BATCH, BatchPlan, Parts
from neuraldiffuser.diffusion.models import load_latent_diffusion
from neuraldiffuser.diffusion.sampler import GUIDANCE_PREDICTIONS, Denoising, estimate
from neuraldiffuser.diffusion.schedule import Step

PLAN = BatchPlan(3, Parts(guided=2, decoded=1))
SHAPE = (4, 8, 8)
STEP = Step(721, 0.0705, 0.0805)


class Brightness(Guidance):
    """Guides every image by itself."""

    targets = ()

    def __call__(self, images, targets):
        del targets
        return images.flatten(1).sum(dim=1)


def ask(model, plan, settings=None):
    """What is compared under a plan."""
    return respond(model, plan, settings or make_settings(), step=STEP, shape=SHAPE)


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
        outputs, gradients = ask(fresh, single)
        return outputs | gradients | {"pair": noise, "attention": attention}

    written = answers()
    compile_networks(fresh, single, make_settings(), step=STEP, shape=SHAPE)
    assert compiled == [fresh.denoiser.unet, fresh.autoencoder.decoder]
    for network in compiled:
        assert network._compiled_call_impl is not None
    for name, answer in answers().items():
        assert written[name].abs().max() > 1e-3
        assert torch.allclose(answer, written[name], rtol=1e-4, atol=1e-6), name


def sizes_of_passes(model, monkeypatch, work):
    """How many samples networks are given: of the denoiser, and the decoder, with and without."""
    sizes = {("denoise", False): [], ("denoise", True): [], ("decode", False): []}
    sizes["decode", True] = []
    for name in ("denoise", "decode"):
        original = getattr(type(model), name)

        def count(self, z, *arguments, name=name, original=original, **options):
            sizes[name, torch.is_grad_enabled()].append(len(z))
            return original(self, z, *arguments, **options)

        monkeypatch.setattr(type(model), name, count)
    work()
    return {each: set(found) for each, found in sizes.items() if found}


@pytest.mark.parametrize("prediction", list(GUIDANCE_PREDICTIONS))
@pytest.mark.parametrize(
    "plan",
    [
        BatchPlan(5, Parts(guided=3, decoded=2)),  # neither part divides the batch
        BatchPlan(3, WHOLE_BATCH),
        BatchPlan(3, Parts(guided=0, decoded=2)),
    ],
)
def test_every_size_that_a_plan_runs_is_compared(fresh, scheduler, monkeypatch, prediction, plan):
    """Reference: the passes of a whole job."""
    settings = make_settings(guidance_prediction=prediction)
    guided = plan.parts.guided and guided_by(Brightness(), scale=1.0, strength=0.4)
    engine = make_engine(fresh, scheduler, settings)
    monkeypatch.setattr(reconstruct, "plan_work", lambda *_, **__: plan)
    embeddings = in_float32(make_embeddings((), np.arange(plan.samples)))
    with monkeypatch.context() as patch:
        expected = sizes_of_passes(
            fresh,
            patch,
            lambda: reconstruct.reconstruct(embeddings, engine, repeats=1, guided=guided or None),
        )
    found = sizes_of_passes(fresh, monkeypatch, lambda: ask(fresh, plan, settings))
    assert found == expected


def test_gradients_are_those_of_half_the_squares(fresh):
    """Reference: autograd through both networks at once, from the same latents."""
    _, gradients = ask(fresh, PLAN)
    z = torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(0)).requires_grad_()
    condition = fresh.unconditional.expand(3, -1, -1)
    _, z_hat = estimate(z, STEP, Denoising(fresh, condition, make_settings()))
    (expected,) = torch.autograd.grad(fresh.decode(z_hat).square().sum() / 2, z)
    assert torch.allclose(gradients["gradient"], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("network", ["denoise", "decode"])
@pytest.mark.parametrize("wrong", ["outputs", "gradients"])
def test_one_wrong_sample_is_found(fresh, monkeypatch, network, wrong):
    """The last of the largest pass, or its gradient."""
    original, before = getattr(type(fresh), network), ask(fresh, PLAN)

    def spoil(self, z, *arguments, **options):
        answer = original(self, z, *arguments, **options)
        values = answer if network == "decode" else answer.noise
        last = values[-1:] / 2 if wrong == "outputs" else Halved.apply(values[-1:])
        spoilt = torch.cat([values[:-1], last])
        return spoilt if network == "decode" else answer._replace(noise=spoilt)

    monkeypatch.setattr(type(fresh), network, spoil)
    after = ask(fresh, PLAN)
    found = [bool(find_differences(*pair, 0.1)) for pair in zip(before, after, strict=True)]
    assert found == [wrong == "outputs", True]


class Halved(torch.autograd.Function):
    """The identity, with half of its gradient."""

    @staticmethod
    def forward(_context, x):
        return x.clone()

    @staticmethod
    def backward(_context, gradient):
        return gradient / 2


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
        leaf = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(block(leaf).square().sum() / 2, leaf)
        return {"gradient": gradient}

    written = answer()
    exclude_enlargements(block)
    block.compile(dynamic=False)
    assert find_differences(written, answer(), GRADIENT_TOLERANCE) == []
