"""The sampler against Algorithm 1 by hand, and step by step against an unbatched reference."""

import ast
import itertools
import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, get_args, get_origin

import plain_sampler
import pytest
import tiny_models
import torch
from tiny_engine import make_settings, make_source

from neuraldiffuser.config.guidance import ClipLayersSettings
from neuraldiffuser.config.reconstruction import Sampling
from neuraldiffuser.config.targets import ClipImageSettings
from neuraldiffuser.diffusion.attention import Denoised
from neuraldiffuser.diffusion.guidance.clip_layers import build_clip_layers
from neuraldiffuser.diffusion.sampler import Denoising, Guide, sample
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
    batch,
    model,
    scheduler,
    settings,
    *,
    guidance=None,
    targets=None,
    scale=1e-3,
    strength=0.7,
    on_step=lambda _index, _z: None,
):
    latents, noise, condition = batch
    schedule = schedule_of(scheduler, settings)
    steps = choose_guided_steps(len(schedule.steps), strength=strength, which=settings.guided_steps)
    guide = Guide(scaled(partial(guidance, targets=targets), scale), steps) if guidance else None
    denoising = Denoising(model, condition, settings)
    return sample(latents, noise, denoising, schedule=schedule, guide=guide, on_step=on_step)


def scaled(loss, scale):
    """The loss, so many times as strong."""
    return lambda images: scale * loss(images)


# --- what every run keeps to ----------------------------------------------------------------


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
            guide=Guide(lambda x: kappa * (x - goal).square().flatten(1).sum(1), guided),
        )
        assert float(ours) == pytest.approx(expected, rel=1e-12)


# --- every step against an unbatched reference in float64 -------------------------------------

# What makes a run comparable on a format, a device or a batch size is no reading of the paper.
NO_READINGS = {"precision", "non_finite_gradients"}
SWITCHES = {
    name: get_args(field.annotation)
    for name, field in Sampling.model_fields.items()
    if get_origin(field.annotation) is Literal and name not in NO_READINGS
} | {
    "loss": get_args(ClipLayersSettings.model_fields["loss"].annotation),
    "self_attention_scale": (0.75, 0.0),
}
COMBINATIONS = list(itertools.product(*SWITCHES.values()))
SCALES = {"sum_squares": 2e-2, "weighted_mean": 20.0}
ETA = 0.7  # two of the three steps
TOLERANCE = 1e-10


@pytest.fixture(scope="module")
def networks(path_to_stable_diffusion, path_to_clip):
    """The reference's own copy of the same weights, attending as unevenly."""
    loaded = plain_sampler.load_networks(path_to_stable_diffusion, path_to_clip)
    loaded.middle.to_q.weight.mul_(20)
    return loaded


@pytest.fixture(scope="module")
def oblong():
    """Two samples that are higher than wide, and larger than the image tower's input."""
    generator = torch.Generator().manual_seed(3)
    shapes = ((2, 4, 12, 10), (2, 4, 12, 10), (2, *tiny_models.TEXT_SHAPE))
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]


def settings_of(combination) -> Sampling:
    return make_settings(steps=4, **dict(zip(SWITCHES, combination, strict=True)))


def guidance_of(path_to_clip, clip_image, settings):
    """The library's guidance function in float64."""
    function = build_clip_layers(make_source(path_to_clip, clip_image, settings))
    function.network.double()
    return function


@pytest.fixture(scope="module")
def trajectory(oblong, model, scheduler, path_to_clip, clip_image):
    """The library's latents after every step, (steps, n, c, h, w), by settings and tower."""

    def walk(settings, clip_image=clip_image):
        function, steps = guidance_of(path_to_clip, clip_image, settings), []
        run(
            oblong,
            model,
            scheduler,
            settings,
            guidance=function,
            targets=targets_of(function, 2),
            scale=SCALES[settings.guidance.clip_layers.loss],
            strength=ETA,
            on_step=lambda _index, z: steps.append(z.clone()),
        )
        return torch.stack(steps)

    return walk


@pytest.fixture(scope="module")
def outcomes(trajectory):
    """The library's trajectory under a combination of switches, each walked once."""
    walked = {}

    def look_up(combination):
        if combination not in walked:
            walked[combination] = trajectory(settings_of(combination))
        return walked[combination]

    return look_up


@pytest.fixture(scope="module")
def reference(oblong, networks, guidance, clip_image):
    """The reference's trajectory, one sample after the other."""

    def walk(settings, clip_image=clip_image):
        targets = {int(name[-2:]): rows for name, rows in targets_of(guidance, 2).items()}
        samples = [
            plain_sampler.reconstruct(
                *(part[k : k + 1] for part in oblong),
                networks=networks,
                settings=settings,
                guidance=plain_sampler.Guidance(
                    targets={layer: rows[k] for layer, rows in targets.items()},
                    clip_image=clip_image,
                    kappa=SCALES[settings.guidance.clip_layers.loss],
                    eta=ETA,
                ),
            )
            for k in range(2)
        ]
        return torch.stack([torch.cat(step) for step in zip(*samples, strict=True)])

    return walk


def test_the_reference_shares_no_code_with_the_sampler():
    tree = ast.parse(Path(plain_sampler.__file__).read_text())
    modules = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    modules += [
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    ]
    own = [module for module in modules if module.startswith("neuraldiffuser")]
    assert own == ["neuraldiffuser.torchvision_schemas"]


def test_there_are_all_combinations():
    assert len(COMBINATIONS) == 128, "a new switch: teach plain_sampler what it means"


@pytest.mark.parametrize("combination", COMBINATIONS, ids=lambda values: "-".join(map(str, values)))
def test_every_step_equals_the_reference(outcomes, reference, combination):
    ours, theirs = outcomes(combination), reference(settings_of(combination))
    assert ours.shape == theirs.shape == (3, 2, 4, 12, 10)
    assert (ours - theirs).abs().max() < TOLERANCE


def test_each_switch_changes_the_result(outcomes):
    """Any two combinations differ by far more than the tolerance of the comparison above."""
    final = [outcomes(combination)[-1] for combination in COMBINATIONS]
    for one, other in itertools.combinations(final, 2):
        assert (one - other).abs().max() > 1e-4


@pytest.mark.parametrize(
    "change",
    [
        {"classifier_free_scale": 4.0},
        {"self_attention_scale": 0.5},
        {"steps": 5},
        {"strength": 1.0},
        {"guidance": {"clip_layers": {"layer_weights": (1.0, 2.0, 3.0, 1.0, 1.0, 2.0)}}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_number_of_the_settings_is_used_as_in_the_reference(trajectory, reference, change):
    plain = {"loss": "weighted_mean", "steps": 4}
    base, settings = trajectory(make_settings(**plain)), make_settings(**plain | change)
    changed = trajectory(settings)
    assert (changed - reference(settings)).abs().max() < TOLERANCE
    assert (changed[-1] - base[-1]).abs().max() > 1e-4


@pytest.mark.parametrize("node", ["block_output", "mlp_projection"])
@pytest.mark.parametrize("normalisation", ["clip", "imagenet"])
@pytest.mark.parametrize("antialias", [True, False])
def test_the_tower_is_read_as_in_the_reference(
    trajectory, reference, node, normalisation, antialias
):
    tower = ClipImageSettings(node=node, normalisation=normalisation, antialias=antialias)
    settings = make_settings(steps=4)
    assert (trajectory(settings, tower) - reference(settings, tower)).abs().max() < TOLERANCE


# --- the gradient ---------------------------------------------------------------------------


STEP = Step(501, plain_sampler.noise_levels()[501], plain_sampler.noise_levels()[251])


def gradient_of(z, condition, model, settings, loss, kappa=1.0):
    """The gradient of the losses in z, (n, c, h, w), from one step with and one without them."""
    a, after = STEP.alpha_bar, STEP.alpha_bar_next
    stays = Schedule(alpha_bar_start=1.0, steps=(STEP,))  # the noise has no share in the start
    denoising = Denoising(model, condition, settings)

    def step(scale):
        guide = Guide(scaled(loss, scale), range(1))
        return sample(z, torch.zeros_like(z), denoising, schedule=stays, guide=guide)

    per_noise = math.sqrt(1 - after) - math.sqrt(after * (1 - a) / a)
    return (step(kappa) - step(0.0)) / (per_noise * math.sqrt(1 - a) * kappa)


@pytest.mark.parametrize("loss", SCALES)
@pytest.mark.parametrize("prediction", SWITCHES["guidance_prediction"])
@pytest.mark.parametrize("latent_blend", SWITCHES["latent_blend"])
@pytest.mark.parametrize("tweedie", SWITCHES["tweedie"])
def test_gradient_equals_finite_differences(
    oblong, model, networks, path_to_clip, clip_image, tweedie, latent_blend, prediction, loss
):
    """Central differences of the reference's loss along a random direction; no automatic gradient.

    A step's result is linear in kappa, so the gradient is read from what kappa changes.
    """
    settings = make_settings(
        tweedie=tweedie,
        latent_blend=latent_blend,
        guidance_prediction=prediction,
        loss=loss,
    )
    function = guidance_of(path_to_clip, clip_image, settings)
    z, direction, condition = oblong
    targets, kappa = targets_of(function, 2), SCALES[loss]
    gradient = gradient_of(z, condition, model, settings, partial(function, targets=targets), kappa)
    slopes = (gradient * direction).flatten(1).sum(dim=1)

    def loss_at(offset, k):
        own = {int(name[-2:]): rows[k] for name, rows in targets.items()}
        return plain_sampler.guidance_loss(
            (z + offset * direction)[k : k + 1],
            STEP.timestep,
            condition[k : k + 1],
            networks=networks,
            settings=settings,
            guidance=plain_sampler.Guidance(own, clip_image, kappa, ETA),
        )

    with torch.no_grad():
        expected = [float(loss_at(1e-5, k) - loss_at(-1e-5, k)) / 2e-5 for k in range(2)]
    assert slopes.tolist() == pytest.approx(expected, rel=1e-5)


def test_a_gradient_never_mixes_images(batch, model, scheduler, guidance):
    """Changing the second image's target, latent and condition leaves the first alone."""
    settings, targets = make_settings(), targets_of(guidance, 2)
    first = run(batch, model, scheduler, settings, guidance=guidance, targets=targets, scale=2e-2)
    other = [torch.cat([part[:1], part[1:] + 1]) for part in batch]
    moved = {name: torch.cat([target[:1], -target[1:]]) for name, target in targets.items()}
    second = run(other, model, scheduler, settings, guidance=guidance, targets=moved, scale=2e-2)
    assert torch.allclose(first[0], second[0], atol=1e-12)
    assert (first[1] - second[1]).abs().max() > 1e-2


def test_guidance_towards_its_own_features_has_no_gradient(batch, model, guidance):
    """Control: an image that already has the wanted features is not moved."""
    z, _, condition = batch
    seen = []
    look = partial(gradient_of, z, condition, model, make_settings())
    look(lambda images: seen.append(images.detach()) or images.flatten(1).sum(dim=1))
    features = guidance.network(torch.cat(seen)[: len(z)])
    own = {f"clip_image_{layer:02d}": rows for layer, rows in features.items()}
    other = targets_of(guidance, 2)
    assert look(partial(guidance, targets=own)).abs().max() < 1e-12
    assert look(partial(guidance, targets=other)).abs().max() > 1e-3


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


def test_a_gradient_that_is_not_finite_is_refused(batch, model):
    z, _, condition = batch
    broken = torch.tensor([1.0, math.inf], dtype=torch.float64)
    with pytest.raises(DataError) as error:
        gradient_of(
            z, condition, model, make_settings(), lambda images: broken * images.flatten(1).sum(1)
        )
    assert str(error.value) == (
        "The guidance has non-finite gradients for 1 of 2 samples at timestep 501; set"
        " reconstruction.precision to float32 or lower the guidance scale."
    )


# --- arithmetic -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Passes:
    """Samples that went through a network, with and without a graph of what was computed."""

    with_graph: int
    without: int


@pytest.fixture
def count_passes(monkeypatch, model):
    """Runs something; what went through the UNet and the decoder meanwhile."""

    def spy(network, rows):
        forward = network.forward

        def counted(latents, *arguments, **options):
            graph = torch.is_grad_enabled() and latents.requires_grad
            rows.extend([graph] * len(latents))
            return forward(latents, *arguments, **options)

        monkeypatch.setattr(network, "forward", counted)

    def count(work):
        through_unet, through_decoder = [], []
        with monkeypatch.context():
            spy(model.denoiser.unet, through_unet)
            spy(model.autoencoder.decoder, through_decoder)
            work()
        return [Passes(sum(rows), rows.count(False)) for rows in (through_unet, through_decoder)]

    return count


@pytest.mark.parametrize(("prediction", "in_graph"), [("conditional", 1), ("classifier_free", 2)])
def test_no_network_runs_more_often_than_needed(
    batch, model, scheduler, guidance, count_passes, prediction, in_graph
):
    """Six steps, one of them guided, of two samples; a third pass is self-attention guidance's."""
    settings = make_settings(guidance_prediction=prediction)
    through_unet, through_decoder = count_passes(
        lambda: run(
            batch,
            model,
            scheduler,
            settings,
            guidance=guidance,
            targets=targets_of(guidance, 2),
            strength=0.2,
        )
    )
    assert through_unet == Passes(with_graph=2 * in_graph, without=2 * (3 * 6 - in_graph))
    assert through_decoder == Passes(with_graph=2, without=0)


def test_unguided_steps_neither_decode_nor_remember(batch, model, scheduler, count_passes):
    through_unet, through_decoder = count_passes(
        lambda: run(batch, model, scheduler, make_settings(self_attention_scale=0.0))
    )
    assert through_unet == Passes(with_graph=0, without=2 * 2 * 6)
    assert through_decoder == Passes(with_graph=0, without=0)


def test_both_predictions_of_an_unguided_step_are_one_pass(batch, model, scheduler, monkeypatch):
    sizes, unet = [], model.denoiser.unet
    forward = unet.forward
    monkeypatch.setattr(
        unet, "forward", lambda z, *a, **k: sizes.append(len(z)) or forward(z, *a, **k)
    )
    run(batch, model, scheduler, make_settings())
    assert sizes == [4, 2] * 6
