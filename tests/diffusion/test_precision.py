"""Gradients in stages, in parts and in half precision are the gradient; broken ones are dealt with.

References: one graph through all networks at once, and float32.
"""

import math
from functools import partial

import pytest
import torch
from tiny_engine import make_settings, make_source

from neuraldiffuser.config.targets import ClipImageSettings
from neuraldiffuser.diffusion import gradients
from neuraldiffuser.diffusion.gradients import NON_FINITE, pull_back, scale_to_unit, shift
from neuraldiffuser.diffusion.guidance.clip_layers import build_clip_layers
from neuraldiffuser.diffusion.memory import Parts
from neuraldiffuser.diffusion.models import load_latent_diffusion
from neuraldiffuser.diffusion.reconstruct import BoundLoss
from neuraldiffuser.diffusion.sampler import (
    GUIDANCE_PREDICTIONS,
    LATENT_BLENDS,
    TWEEDIE,
    Denoising,
    guided_noise,
    latent_gradient,
)
from neuraldiffuser.diffusion.schedule import Step
from neuraldiffuser.errors import DataError

STEP = Step(721, 0.0705, 0.0805)


@pytest.fixture(scope="module")
def five(model):
    """Latents and condition of five samples, float64."""
    generator = torch.Generator().manual_seed(5)
    draw = partial(torch.randn, generator=generator, dtype=torch.float64)
    return draw(5, 4, 8, 8), draw(5, *model.unconditional.shape)


@pytest.fixture(scope="module")
def loss(guidance):
    """Distance of five images to random features."""
    generator = torch.Generator().manual_seed(6)
    shape = (5, *guidance.network.shape)
    targets = {
        name: torch.randn(shape, generator=generator, dtype=torch.float64)
        for name in guidance.targets
    }
    return BoundLoss(guidance, targets)


def one_graph(z, denoising, loss):
    """The gradient as autograd takes it through denoiser, decoder and guide at once."""
    settings = denoising.settings
    z = z.clone().requires_grad_()
    _, e = GUIDANCE_PREDICTIONS[settings.guidance_prediction](z, STEP, denoising)
    z_0 = TWEEDIE[settings.tweedie](z, e, STEP.alpha_bar)
    z_hat = LATENT_BLENDS[settings.latent_blend](z_0, z, STEP.alpha_bar)
    return torch.autograd.grad(loss(denoising.model.decode(z_hat)).sum(), z)[0]


@pytest.mark.parametrize("prediction", list(GUIDANCE_PREDICTIONS))
@pytest.mark.parametrize("parts", [Parts(1, 1), Parts(2, 1), Parts(3, 2), Parts(5, 5)])
def test_stages_and_parts_equal_one_graph(model, five, loss, prediction, parts):
    z, condition = five
    settings = make_settings(guidance_prediction=prediction)
    whole = Denoising(model, condition, settings)
    expected = math.sqrt(1 - STEP.alpha_bar) * one_graph(z, whole, loss)
    removed, term = guided_noise(z, STEP, Denoising(model, condition, settings, parts), loss)
    assert (term - expected).abs().max() < 1e-12 * expected.abs().max()
    assert torch.allclose(removed, guided_noise(z, STEP, whole, loss)[0], atol=1e-12)


def test_a_part_is_guided_by_its_own_targets(model, five, loss):
    """Control: with the targets of other samples the gradient is another one."""
    z, condition = five
    denoising = Denoising(model, condition, make_settings())
    _, own = latent_gradient(z[2:4], STEP, denoising.of(slice(2, 4)), loss.of(slice(2, 4)))
    _, other = latent_gradient(z[2:4], STEP, denoising.of(slice(2, 4)), loss.of(slice(0, 2)))
    expected = one_graph(z, denoising, loss)[2:4]
    assert (own - expected).abs().max() < 1e-12 * expected.abs().max()
    assert (other - expected).abs().max() > 0.1 * expected.abs().max()


def test_never_more_than_one_part_is_decoded(model, five, loss, monkeypatch):
    """Each decoded sample is decoded once, in parts of two of parts of three."""
    sizes, decode = [], model.autoencoder.decode
    monkeypatch.setattr(
        model.autoencoder, "decode", lambda z, **k: sizes.append(len(z)) or decode(z, **k)
    )
    z, condition = five
    guided_noise(z, STEP, Denoising(model, condition, make_settings(), Parts(3, 2)), loss)
    assert sizes == [2, 1, 2]


@pytest.mark.parametrize("wanted", [True, False])
def test_recomputed_activations_give_the_same_gradient(
    path_to_stable_diffusion, model, five, loss, wanted
):
    z, condition = five
    other = load_latent_diffusion(path_to_stable_diffusion, dtype=torch.float64)
    other.denoiser.attention.to_q.weight.mul_(20)
    other.recompute_decoder(wanted)
    passes = []
    other.autoencoder.decoder.mid_block.register_forward_pre_hook(lambda *_: passes.append(1))
    expected = guided_noise(z, STEP, Denoising(model, condition, make_settings()), loss)[1]
    found = guided_noise(z, STEP, Denoising(other, condition, make_settings()), loss)[1]
    assert len(passes) == 1 + wanted
    assert torch.allclose(found, expected, rtol=1e-12)


# --- half precision -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def guide(path_to_clip):
    """The guide as a job in half precision loads it."""
    settings = make_settings(precision="float16", loss="weighted_mean")
    clip_image = ClipImageSettings(node="block_output", normalisation="clip", antialias=True)
    return build_clip_layers(make_source(path_to_clip, clip_image, settings))


@pytest.fixture(scope="module")
def measure(path_to_stable_diffusion, five, guide):
    """The guidance term at a precision, of a loss multiplied by a factor and divided again."""
    z, condition = (part.float() for part in five)
    generator = torch.Generator().manual_seed(7)
    targets = {
        name: torch.randn(5, *guide.network.shape, generator=generator) for name in guide.targets
    }

    def run(precision, factor=1.0):
        model = load_latent_diffusion(path_to_stable_diffusion, dtype=getattr(torch, precision))
        denoising = Denoising(model, condition, make_settings(precision=precision))
        _, term = guided_noise(z, STEP, denoising, lambda images: factor * guide(images, targets))
        return term / factor

    return run


def alike(one, other):
    """The smallest cosine between samples, and the ratio of norms."""
    cosine = torch.cosine_similarity(one.flatten(1), other.flatten(1))
    return float(cosine.min()), float(one.norm() / other.norm())


def test_the_guide_computes_in_float32(guide):
    assert {weight.dtype for weight in guide.network.parameters()} == {torch.float32}


@pytest.mark.parametrize("factor", [1e-12, 1.0, 1e12])
@pytest.mark.parametrize(("precision", "least"), [("float16", 0.999), ("bfloat16", 0.997)])
def test_gradients_of_half_the_bits_have_the_direction_of_float32(
    measure, precision, least, factor
):
    """Processors round sums of bfloat16 in different places: 0.9977 to 0.9985 were seen."""
    cosine, ratio = alike(measure(precision, factor), measure("float32"))
    assert least < cosine < 1 - 1e-6, "in float32 it would be nearer"
    assert ratio == pytest.approx(1, abs=0.01)


def test_without_scaling_float16_loses_them(measure, monkeypatch):
    """Control: this is what the test above would see."""
    untouched = lambda gradient: (gradient, torch.zeros(len(gradient), dtype=torch.int32))  # noqa: E731
    monkeypatch.setattr(gradients, "scale_to_unit", untouched)
    assert alike(measure("float16", 1e-12), measure("float32"))[0] < 0.5
    with pytest.raises(DataError, match="non-finite gradients for 5 of 5 samples"):
        measure("float16", 1e12)


def test_scaling_is_exact_and_per_sample():
    """Powers of two: nothing but the exponent changes, whatever the sample's size."""
    generator = torch.Generator().manual_seed(0)
    sizes = torch.tensor([1e-30, 1e-7, 1.0, 3.0, 1e9, 1e30])[:, None, None]
    gradient = sizes * torch.randn(6, 3, 4, generator=generator)
    scaled, exponent = scale_to_unit(gradient)
    largest = scaled.flatten(1).abs().amax(dim=1)
    assert ((largest >= 0.5) & (largest < 1)).all()
    assert torch.equal(torch.frexp(scaled).mantissa, torch.frexp(gradient).mantissa)
    assert torch.equal(shift(scaled, exponent), gradient)


def test_zero_and_broken_gradients_are_not_scaled():
    gradient = torch.tensor([[0.0, 0.0], [math.nan, 8.0], [math.inf, 8.0]])
    scaled, exponent = scale_to_unit(gradient)
    assert exponent.tolist() == [0, 0, 0]
    assert torch.equal(scaled.nan_to_num(nan=-1), gradient.nan_to_num(nan=-1))


def test_pulling_back_is_the_vector_jacobian_product():
    generator = torch.Generator().manual_seed(0)
    weight, gradient = (torch.randn(2, 3, generator=generator) for _ in range(2))
    inputs = torch.ones(2, 3, requires_grad=True)
    assert torch.equal(pull_back(gradient, weight * inputs, inputs), weight * gradient)


# --- gradients that are not finite ----------------------------------------------------------

BROKEN = torch.tensor([[1.0, -2.0, 3.0], [math.inf, -4.0, 5.0], [math.nan, -math.inf, 0.5]])


def test_stop_counts_what_is_broken():
    with pytest.raises(DataError) as error:
        NON_FINITE["stop"](BROKEN, STEP, lambda *_: None)
    assert str(error.value) == (
        "The guidance has non-finite gradients for 2 of 3 samples at timestep 721; set"
        " reconstruction.precision to float32 or lower the guidance scale."
    )


def test_clip_replaces_what_is_broken_and_tells_of_it():
    told = []
    clipped = NON_FINITE["clip"](BROKEN, STEP, lambda *what: told.append(what))
    assert clipped.tolist() == [[1, -2, 3], [5, -4, 5], [0, -0.5, 0.5]]
    ((broken, step),) = told
    assert broken.tolist() == [False, True, True]
    assert step == STEP


@pytest.mark.parametrize("name", list(NON_FINITE))
def test_finite_gradients_are_left_alone(name):
    told = []
    left = NON_FINITE[name](BROKEN[:1], STEP, lambda *what: told.append(what))
    assert torch.equal(left, BROKEN[:1])
    assert not told


class Weighted:
    """The sum of each image's values, times a weight of its own."""

    def __init__(self, weights):
        self.weights = weights

    def __call__(self, images):
        return self.weights * images.flatten(1).sum(1)

    def of(self, rows):
        return Weighted(self.weights[rows])


def test_the_setting_decides_for_a_step(model, five):
    """An infinite loss of one sample: its gradient is clipped, the others stay as they are."""
    z, condition = five
    factor = torch.tensor([1.0, 1.0, math.inf, 1.0, 1.0], dtype=torch.float64)

    def run(weights, **changes):
        settings, told = make_settings(**changes), []
        parts = Parts(guided=2, decoded=1)
        tell = lambda broken, _step: told.append(broken.tolist())  # noqa: E731
        denoising = Denoising(model, condition, settings, parts, on_clipped=tell)
        return guided_noise(z, STEP, denoising, Weighted(weights))[1], told

    with pytest.raises(DataError, match="1 of 5 samples"):
        run(factor)
    clipped, told = run(factor, non_finite_gradients="clip")
    whole, _ = run(torch.ones(5, dtype=torch.float64))
    assert told == [[False, False, True, False, False]]
    assert clipped.isfinite().all()
    assert torch.equal(clipped[[0, 1, 3, 4]], whole[[0, 1, 3, 4]])
    assert not torch.equal(clipped[2], whole[2])
