"""The sampler against diffusers' loop, Algorithm 1 by hand, and an unbatched float64 reference."""

import itertools
import math
from dataclasses import dataclass
from functools import partial

import pytest
import torch
from tiny_engine import make_settings

from neuraldiffuser.diffusion.attention import Denoised
from neuraldiffuser.diffusion.sampler import (
    GUIDANCE_PREDICTIONS,
    LATENT_BLENDS,
    TWEEDIE,
    Denoising,
    Guide,
    guided_noise,
    sample,
)
from neuraldiffuser.diffusion.schedule import Schedule, Step, choose_guided_steps, make_schedule
from neuraldiffuser.errors import DataError


def schedule_of(scheduler, settings):
    return make_schedule(
        scheduler,
        steps=settings.steps,
        strength=settings.strength,
        noise_timestep=settings.noise_timestep,
    )


def targets_of(guidance, count, seed=0):
    """Random targets for each guidance layer, float64."""
    generator = torch.Generator().manual_seed(seed)
    shape = (count, *guidance.network.shape)
    return {
        name: torch.randn(shape, generator=generator, dtype=torch.float64)
        for name in guidance.targets
    }


def run(
    batch, model, scheduler, settings, *, guidance=None, targets=None, scale=1e-3, strength=0.7
):
    latents, noise, condition = batch
    schedule = schedule_of(scheduler, settings)
    steps = choose_guided_steps(len(schedule.steps), strength=strength, which=settings.guided_steps)
    guide = Guide(partial(guidance, targets=targets), scale, steps) if guidance else None
    return sample(
        latents, noise, Denoising(model, condition, settings), schedule=schedule, guide=guide
    )


# --- without guidance -----------------------------------------------------------------------


def test_without_guidance_it_is_diffusers_image_to_image_loop(batch, model, scheduler):
    """Reference: StableDiffusionImg2ImgPipeline's loop, DDIMScheduler.add_noise and .step."""
    settings = make_settings(self_attention_scale=0.0)
    ours = run(batch, model, scheduler, settings)
    latents, noise, condition = batch
    theirs = type(scheduler).from_config(scheduler.config)
    theirs.set_timesteps(settings.steps)
    timesteps = theirs.timesteps[settings.steps - int(settings.steps * settings.strength) :]
    z = theirs.add_noise(latents, noise, timesteps[:1])
    both = torch.cat([model.unconditional.expand_as(condition), condition])
    with torch.no_grad():
        for timestep in timesteps:
            unconditional, conditional = model.denoiser.unet(
                torch.cat([z, z]), timestep, both
            ).sample.chunk(2)
            combined = unconditional + 3.0 * (conditional - unconditional)
            z = theirs.step(combined, timestep, z).prev_sample
    # diffusers keeps noise levels in float32
    assert (ours - z).abs().max() < 1e-5


def test_scale_zero_is_no_guidance(batch, model, scheduler, guidance):
    settings = make_settings()
    guided = run(
        batch,
        model,
        scheduler,
        settings,
        guidance=guidance,
        targets=targets_of(guidance, 2),
        scale=0,
    )
    assert (guided - run(batch, model, scheduler, settings)).abs().max() < 1e-12


def test_each_step_is_reported(batch, model, scheduler):
    settings, reported = make_settings(), []
    latents, noise, condition = batch
    schedule = schedule_of(scheduler, settings)
    final = sample(
        latents,
        noise,
        Denoising(model, condition, settings),
        schedule=schedule,
        on_step=lambda index, z: reported.append((index, z)),
    )
    assert [index for index, _ in reported] == list(range(6))
    assert len(schedule.steps) == 6
    assert torch.equal(reported[-1][1], final)
    assert not torch.equal(reported[-2][1], final)


# --- Algorithm 1 by hand --------------------------------------------------------------------


@dataclass(frozen=True)
class LinearModel:
    """Predicts 0.1 z + condition; decodes to twice the latent."""

    unconditional: torch.Tensor

    def denoise(self, latents, _timestep, condition, *, attended=0):
        del attended
        return Denoised(0.1 * latents + condition[:, :, None, None], None)

    def decode(self, latents):
        return 2 * latents


def test_algorithm_1_by_hand():
    """One number per latent; every line of Algorithm 1 worked out with plain floats."""
    z, noise, condition, goal, kappa = 0.8, -0.5, 0.3, 0.25, 0.7
    steps = (Step(700, 0.1, 0.4), Step(300, 0.4, 0.9))
    for guided in (range(1), range(1, 2)):
        expected = math.sqrt(0.2) * z + math.sqrt(0.8) * noise  # line 2
        for index, step in enumerate(steps):
            a, after, noisy = step.alpha_bar, step.alpha_bar_next, expected
            e = 0.1 * noisy + condition
            z_0 = (noisy - math.sqrt(1 - a) * e) / math.sqrt(a)  # line 4
            weight = math.sqrt(1 - a)
            if index in guided:
                z_hat = weight * z_0 + (1 - weight) * noisy  # line 6
                slope = weight * (1 - math.sqrt(1 - a) * 0.1) / math.sqrt(a) + 1 - weight
                gradient = 2 * (2 * z_hat - goal) * 2 * slope  # of (2 z_hat - goal)^2, line 7
                e += math.sqrt(1 - a) * kappa * gradient  # line 8
            clean = (noisy - math.sqrt(1 - a) * e) / math.sqrt(a)
            expected = math.sqrt(after) * clean + math.sqrt(1 - after) * e  # line 9
        ours = sample(
            torch.full((1, 1, 1, 1), z, dtype=torch.float64),
            torch.full((1, 1, 1, 1), noise, dtype=torch.float64),
            Denoising(
                LinearModel(torch.zeros(1, dtype=torch.float64)),
                torch.full((1, 1), condition, dtype=torch.float64),
                make_settings(classifier_free_scale=1.0, self_attention_scale=0.0),
            ),
            schedule=Schedule(0.2, steps),
            guide=Guide(lambda images: (images - goal).square().flatten(1).sum(1), kappa, guided),
        )
        assert float(ours) == pytest.approx(expected, rel=1e-12)


# --- every combination of switches against an unbatched reference ---------------------------

SWITCHES = list(
    itertools.product(
        TWEEDIE,
        LATENT_BLENDS,
        GUIDANCE_PREDICTIONS,
        ("sum_squares", "weighted_mean"),
        ("first", "last"),
    )
)
SCALES = {"sum_squares": 2e-2, "weighted_mean": 20.0}


def reference_loss(images, network, targets, loss):
    """Eq. 14 or the released weighting for one image, layer by layer."""
    features = network(images)
    pairs = [(features[int(name[-2:])][0], target) for name, target in targets.items()]
    if loss == "sum_squares":
        return sum(((f - g) ** 2).sum() for f, g in pairs)
    norms = [1 / math.sqrt(float((g**2).sum())) for _, g in pairs]
    weights = [w * n / sum(norms) for w, n in zip((1.5, 1.2, 1, 1, 1, 1), norms, strict=True)]
    return sum(w * ((f - g) ** 2).mean() for w, (f, g) in zip(weights, pairs, strict=True))


def reference_sample(
    latent, noise, condition, *, model, schedule, settings, network, targets, kappa
):
    """One image at a time, written from the equations; UNet and decoder are called plainly."""
    unet, vae = model.denoiser.unet, model.autoencoder
    scale, sag = settings.classifier_free_scale, settings.self_attention_scale
    count = len(schedule.steps)
    guided = int(0.7 * count)
    indices = range(guided) if settings.guided_steps == "first" else range(count - guided, count)
    start = schedule.alpha_bar_start
    z = math.sqrt(start) * latent + math.sqrt(1 - start) * noise
    for index, step in enumerate(schedule.steps):
        a, s = step.alpha_bar, math.sqrt(1 - step.alpha_bar)
        z = z.detach().requires_grad_()
        e_u = unet(z, step.timestep, model.unconditional[None]).sample
        e_c = unet(z, step.timestep, condition).sample
        e = e_u + scale * (e_c - e_u)
        total = e.detach()
        if index in indices:
            behind = e_c if settings.guidance_prediction == "conditional" else e
            factor = s if settings.tweedie == "exact" else 1 - a
            z_0 = (z - factor * behind) / math.sqrt(a)
            z_hat = s * z_0 + (1 - s) * z if settings.latent_blend == "noise_level" else z_0
            image = (vae.decode(z_hat / vae.config.scaling_factor).sample / 2 + 0.5).clamp(0, 1)
            loss = kappa * reference_loss(image, network, targets, settings.guidance_loss)
            total = total + s * torch.autograd.grad(loss, z)[0]
        with torch.no_grad():
            attention = model.denoiser(z, step.timestep, model.unconditional[None], attended=1)[1]
            mask = (attention > 1.0).double().repeat_interleave(2, 1).repeat_interleave(2, 2)
            clean = (z - s * e_u) / math.sqrt(a)
            blurred = blur(clean) * mask + clean * (1 - mask)
            degraded = math.sqrt(a) * blurred + s * e_u
            e_degraded = unet(degraded, step.timestep, model.unconditional[None]).sample
            total = total + sag * (e_u - e_degraded)
            z_0 = (z - s * total) / math.sqrt(a)
            after = step.alpha_bar_next
            z = math.sqrt(after) * z_0 + math.sqrt(1 - after) * total
    return z.detach()


def blur(images):
    """Diffusers' own Gaussian blur."""
    from diffusers.pipelines.deprecated.stable_diffusion_sag import (
        pipeline_stable_diffusion_sag as peer,
    )

    return peer.gaussian_blur_2d(images, kernel_size=9, sigma=1.0)


@pytest.fixture(scope="module")
def outcomes():
    """What each combination of switches gave, for the comparison between them."""
    return {}


@pytest.mark.parametrize(("tweedie", "blend", "prediction", "loss", "which"), SWITCHES)
def test_every_combination_equals_the_reference(
    batch, model, scheduler, guidance, outcomes, tweedie, blend, prediction, loss, which
):
    from neuraldiffuser.diffusion.guidance import ClipLayersGuidance

    settings = make_settings(
        steps=5,
        tweedie=tweedie,
        latent_blend=blend,
        guidance_prediction=prediction,
        guidance_loss=loss,
        guided_steps=which,
    )
    function = ClipLayersGuidance(
        guidance.network, layers=guidance.layers, loss=loss, weights=settings.layer_weights
    )
    targets, kappa = targets_of(guidance, 2), SCALES[loss]
    ours = run(batch, model, scheduler, settings, guidance=function, targets=targets, scale=kappa)
    latents, noise, condition = batch
    for k in range(2):
        theirs = reference_sample(
            latents[k : k + 1],
            noise[k : k + 1],
            condition[k : k + 1],
            model=model,
            schedule=schedule_of(scheduler, settings),
            settings=settings,
            network=guidance.network,
            targets={name: target[k] for name, target in targets.items()},
            kappa=kappa,
        )
        # the blur kernel of diffusers is float32
        assert torch.allclose(ours[k : k + 1], theirs, atol=1e-5), f"sample {k}"
    unguided = run(batch, model, scheduler, settings)
    assert (ours - unguided).abs().max() > 1e-3, "the guidance did not move anything"
    outcomes[tweedie, blend, prediction, loss, which] = ours


def test_each_switch_changes_the_result(outcomes):
    """Any two combinations differ by far more than the tolerance of the comparison above."""
    assert len(outcomes) == len(SWITCHES), "run this whole file: it compares the tests before it"
    for one, other in itertools.combinations(outcomes.values(), 2):
        assert (one - other).abs().max() > 1e-4


def test_the_remaining_switches_change_the_result(batch, model, scheduler):
    base = run(batch, model, scheduler, make_settings())
    for change in (
        {"noise_timestep": "released"},
        {"classifier_free_scale": 4.0},
        {"self_attention_scale": 0.5},
        {"steps": 10},
        {"strength": 0.9},
    ):
        changed = run(batch, model, scheduler, make_settings(**change))
        assert (changed - base).abs().max() > 1e-4, change


# --- the gradient ---------------------------------------------------------------------------


@pytest.mark.parametrize(("tweedie", "blend", "prediction"), sorted({s[:3] for s in SWITCHES}))
def test_gradient_equals_finite_differences(
    batch, model, scheduler, guidance, tweedie, blend, prediction
):
    """Central differences of the loss along a random direction, float64."""
    z, direction, condition = batch
    settings = make_settings(tweedie=tweedie, latent_blend=blend, guidance_prediction=prediction)
    denoising = Denoising(model, condition, settings)
    step = schedule_of(scheduler, settings).steps[0]
    loss = partial(guidance, targets=targets_of(guidance, 2))
    _, term = guided_noise(z, step, denoising, loss)
    slope = (term * direction).flatten(1).sum(dim=1) / math.sqrt(1 - step.alpha_bar)

    def loss_at(offset):
        moved = z + offset * direction
        _, e = GUIDANCE_PREDICTIONS[prediction](moved, step, denoising)
        z_0 = TWEEDIE[tweedie](moved, e, step.alpha_bar)
        return loss(model.decode(LATENT_BLENDS[blend](z_0, moved, step.alpha_bar)))

    with torch.no_grad():
        expected = (loss_at(1e-5) - loss_at(-1e-5)) / 2e-5
    assert torch.allclose(slope, expected, rtol=1e-5)


def test_a_gradient_never_mixes_images(batch, model, scheduler, guidance):
    """Changing the second image's target, latent and condition leaves the first alone."""
    settings, targets = make_settings(), targets_of(guidance, 2)
    first = run(batch, model, scheduler, settings, guidance=guidance, targets=targets, scale=2e-2)
    other = [torch.cat([part[:1], part[1:] + 1]) for part in batch]
    moved = {name: torch.cat([target[:1], -target[1:]]) for name, target in targets.items()}
    second = run(other, model, scheduler, settings, guidance=guidance, targets=moved, scale=2e-2)
    assert torch.allclose(first[0], second[0], atol=1e-12)
    assert (first[1] - second[1]).abs().max() > 1e-2


def test_guidance_towards_its_own_features_has_no_gradient(batch, model, scheduler, guidance):
    """Control: an image that already has the wanted features is not moved."""
    z, _, condition = batch
    settings = make_settings()
    denoising = Denoising(model, condition, settings)
    step = schedule_of(scheduler, settings).steps[0]
    seen = []
    guided_noise(z, step, denoising, lambda images: seen.append(images) or images.flatten(1).sum(1))
    own = {f"clip_image_{k:02d}": f.detach() for k, f in guidance.network(seen[0]).items()}
    _, term = guided_noise(z, step, denoising, partial(guidance, targets=own))
    _, elsewhere = guided_noise(
        z, step, denoising, partial(guidance, targets=targets_of(guidance, 2))
    )
    assert term.abs().max() < 1e-12 < elsewhere.abs().max()


def test_stronger_guidance_comes_closer_to_the_target(batch, model, scheduler, guidance):
    targets, losses = targets_of(guidance, 2), []
    for scale in (0.0, 1e-2, 3e-2):
        latents = run(
            batch,
            model,
            scheduler,
            make_settings(),
            guidance=guidance,
            targets=targets,
            scale=scale,
            strength=1.0,
        )
        with torch.no_grad():
            losses.append(float(guidance(model.decode(latents), targets).sum()))
    assert losses == sorted(losses, reverse=True)


def test_a_gradient_that_is_not_finite_is_refused(batch, model, scheduler):
    z, _, condition = batch
    settings = make_settings()
    step = schedule_of(scheduler, settings).steps[0]
    broken = torch.tensor([1.0, math.inf], dtype=torch.float64)
    with pytest.raises(DataError) as error:
        guided_noise(
            z,
            step,
            Denoising(model, condition, settings),
            lambda images: broken * images.flatten(1).sum(1),
        )
    assert str(error.value) == (
        f"The guidance has non-finite gradients for 1 of 2 samples at timestep {step.timestep};"
        " set reconstruction.precision to float32 or lower the guidance scale."
    )


def test_the_unet_runs_no_more_often_than_needed(batch, model, scheduler, guidance, monkeypatch):
    """Two passes for an unguided step, three for a guided one, none for the gradient alone."""
    passes = []
    unet = model.denoiser.unet
    forward = unet.forward
    monkeypatch.setattr(
        unet, "forward", lambda z, *a, **k: passes.append(len(z)) or forward(z, *a, **k)
    )
    run(
        batch,
        model,
        scheduler,
        make_settings(),
        guidance=guidance,
        targets=targets_of(guidance, 2),
        strength=0.2,
    )
    assert passes == [2, 2, 2] + [4, 2] * 5
