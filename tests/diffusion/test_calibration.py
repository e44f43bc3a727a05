"""The calibrated scale has the wanted ratio, on images that were held out."""

import numpy as np
import pytest
import torch
from tiny_engine import IDS, guided_by, make_embeddings, make_engine, make_settings

from neuraldiffuser.diffusion.calibration import calibrate, choose_images, unit_ratios
from neuraldiffuser.diffusion.guidance import Guidance
from neuraldiffuser.diffusion.reconstruct import Guided, bind_targets, place_batch, plan_batches
from neuraldiffuser.diffusion.sampler import guided_noise, sample
from neuraldiffuser.errors import ConfigError, DataError


@pytest.mark.parametrize("which", ["first", "last"])
@pytest.mark.parametrize("ratio", [0.3, 2.0])
def test_calibration_hits_the_ratio(model, scheduler, guidance, which, ratio):
    """The ratio is measured again, with the scale applied, in the first guided step."""
    engine = make_engine(model, scheduler, make_settings(guided_steps=which))
    embeddings = make_embeddings(guidance.targets)
    found = calibrate(embeddings, engine, Guided(guidance, 0.4), ratio=ratio)
    (batch,) = plan_batches(len(IDS), repeats=1, batch_size=8)
    inputs = place_batch(batch, embeddings, engine)
    guide = bind_targets(
        batch, embeddings, engine, guided_by(guidance, scale=found.scale, strength=0.4)
    )
    first = {"first": 0, "last": 4}[which]  # 2 of 6 steps
    z = sample(
        inputs.latents, inputs.noise, inputs.denoising, schedule=engine.schedule.until(first)
    )
    removed, term = guided_noise(z, engine.schedule.steps[first], inputs.denoising, guide.loss)
    ratios = [
        float(t.square().sum().sqrt() / e.square().sum().sqrt())
        for t, e in zip(term, removed, strict=True)
    ]
    assert np.median(ratios) == pytest.approx(ratio, rel=1e-9)
    assert found.ratio == ratio
    assert found.ratio_low <= ratio <= found.ratio_high
    assert found.images == len(IDS)


def test_ratios_do_not_depend_on_the_batch(model, scheduler, guidance):
    embeddings, guided = make_embeddings(guidance.targets), Guided(guidance, 0.4)
    ratios = []
    for batch_size in (1, 3):
        engine = make_engine(model, scheduler, make_settings(batch_size=batch_size))
        batches = plan_batches(len(IDS), repeats=1, batch_size=batch_size)
        parts = [unit_ratios(b, embeddings, engine, guided, lambda _: None) for b in batches]
        ratios.append(np.concatenate(parts))
    assert np.allclose(*ratios, rtol=1e-9)


def test_images_are_a_seeded_choice_of_the_held_out_ones():
    ids = np.arange(100, 200, 3)
    chosen = choose_images(ids, count=10, seed=1)
    assert len(set(chosen)) == 10
    assert set(chosen) <= set(ids)
    assert np.array_equal(chosen, choose_images(ids, count=10, seed=1))
    assert not np.array_equal(chosen, choose_images(ids, count=10, seed=2))
    assert np.array_equal(choose_images(ids, count=1000, seed=1), ids)


def test_no_held_out_image_is_refused():
    with pytest.raises(DataError) as error:
        choose_images(np.array([], dtype=int), count=10, seed=1)
    assert str(error.value) == (
        "No held-out training images to calibrate the guidance scale on; set"
        " decoder.validation_images above 0 or give the variant a scale."
    )


class Indifferent(Guidance):
    """A guidance function to which all images are equal."""

    targets = ()

    def __call__(self, images, targets):
        del targets
        return 0 * images.flatten(1).sum(dim=1)


def test_a_guidance_without_gradient_is_refused(model, scheduler):
    engine = make_engine(model, scheduler, make_settings())
    with pytest.raises(DataError, match="no gradient on 3 held-out images"):
        calibrate(make_embeddings(()), engine, Guided(Indifferent(), 0.4), ratio=0.5)


class Vertical(Guidance):
    """A guidance function whose gradient is infinite."""

    targets = ()

    def __call__(self, images, targets):
        del targets
        return torch.inf * images.flatten(1).sum(dim=1)


@pytest.mark.parametrize("setting", ["stop", "clip"])
def test_nothing_is_calibrated_on_clipped_gradients(model, scheduler, setting):
    engine = make_engine(model, scheduler, make_settings(non_finite_gradients=setting))
    with pytest.raises(DataError, match="non-finite gradients for 3 of 3 samples"):
        calibrate(make_embeddings(()), engine, Guided(Vertical(), 0.4), ratio=0.5)


def test_noise_that_is_not_finite_is_refused(model, scheduler, guidance, monkeypatch):
    """Of two images; the median of all three would not tell."""
    engine = make_engine(model, scheduler, make_settings(self_attention_scale=0))
    denoise = type(model).denoise

    def fail(self, latents, *arguments, **options):
        answer = denoise(self, latents, *arguments, **options)
        if not torch.is_grad_enabled():
            answer.noise[:2] = torch.inf
        return answer

    monkeypatch.setattr(type(model), "denoise", fail)
    with pytest.raises(DataError) as error:
        calibrate(make_embeddings(guidance.targets), engine, Guided(guidance, 0.4), ratio=0.5)
    assert str(error.value) == (
        "The denoiser's noise is not finite or zero for 2 of 3 held-out images, so a guidance scale"
        " cannot be calibrated; set reconstruction.precision to float32."
    )


def test_a_strength_that_guides_no_step_is_refused(model, scheduler, guidance):
    engine = make_engine(model, scheduler, make_settings())
    with pytest.raises(ConfigError) as error:
        calibrate(make_embeddings(guidance.targets), engine, Guided(guidance, 0.1), ratio=0.5)
    assert str(error.value) == (
        "A guidance strength of 0.1 guides none of 6 steps, so there is no scale to calibrate;"
        " raise the variant's strength or reconstruction.steps."
    )
    assert torch.is_grad_enabled()
