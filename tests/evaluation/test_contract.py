"""What every metric must do, whichever it is: a new one of the registries is tested by existing.

Identical images have the best value, shuffled pairs are at chance within its interval, and noise
makes every metric worse, step by step. Images are independent patterns, and the judging network
and brain are linear maps of them, so that chance is known.
"""

import numpy as np
import pytest
import torch
from torch import nn

from neuraldiffuser.config.evaluation import BootstrapSettings, Conventions, Judge
from neuraldiffuser.evaluation.brain import Ceilings, measure_brain
from neuraldiffuser.evaluation.features import SetValue, measure_networks
from neuraldiffuser.evaluation.metrics import MEASURES, choose_names, metrics_of
from neuraldiffuser.evaluation.pixels import measure_pixels
from neuraldiffuser.evaluation.statistics import bootstrap_mean

NUMBER, REPEATS, SIZE = 60, 2, 32
NOISE = (0.55, 0.7, 0.8, 0.9)
LABELS = np.repeat([0, 1, 2, 3, 5, 7], 8)  # of voxels: higher, V1v, V1d, V2v, V3v, hV4
GUIDING = np.arange(len(LABELS)) % 2 == 0
JUDGES = [
    Judge(name=name, label=name, network="eye", node="seen", measure=name, level="early")
    for name in MEASURES
]
METRICS = metrics_of(JUDGES)
BOOTSTRAP = BootstrapSettings(draws=500, level=0.999)
# By unit: the best value, and that of pairs that have nothing to do with each other.
BEST = {"correlation": 1, "index": 1, "share identified": 1, "share of the ceiling": 1}
BEST |= {"1 - correlation": 0, "perceptual distance": 0}
CHANCE = {"correlation": 0, "index": 0, "share identified": 0.5, "share of the ceiling": 0}
CHANCE |= {"1 - correlation": 1}


class Eye(nn.Module):
    """Random projections of the contrasts of an image."""

    def forward(self, images):
        flat = images.flatten(1) - 0.5
        weights = torch.randn(flat.shape[1], 20, generator=torch.manual_seed(0))
        return {"seen": flat @ weights / 4}


def respond(images):
    """What a brain with one linear response per voxel answers, (..., voxels)."""
    weights = np.random.default_rng(5).normal(size=(SIZE * SIZE * 3, len(LABELS)))
    return (images.reshape(*images.shape[:-3], -1) / 255.0 - 0.5) @ weights


def draw(*shape, seed, brightest=255):
    """Independent patterns of blocks, uint8."""
    generator = np.random.default_rng(seed)
    cells = generator.integers(0, brightest + 1, size=(*shape, 8, 8, 3), dtype=np.uint8)
    return cells.repeat(4, axis=-3).repeat(4, axis=-2)


STIMULI = draw(NUMBER, seed=2)


def blend(images, share, **kind):
    """Every repeat with noise of its own."""
    noise = draw(NUMBER, REPEATS, seed=1, **kind)
    mixed = (1 - share) * images[:, None] + share * noise
    return np.rint(mixed).astype(np.uint8)


def measure(reconstructions):
    """Every metric: its value per image, averaged over repeats, or one number."""
    values = measure_pixels(STIMULI, reconstructions, sizes=(None, SIZE))
    values |= measure_networks(
        STIMULI,
        reconstructions,
        load={"eye": Eye()}.get,
        judges=JUDGES,
        first_resize_of={"eye": None}.get,
    )
    values |= measure_brain(
        respond(STIMULI),
        respond(reconstructions),
        labels=LABELS,
        ceilings=Ceilings(percent=np.full(len(LABELS), 100.0), trials=np.full(NUMBER, 3)),
        judging=~GUIDING,
    )
    return {
        name: np.array([found.value]) if isinstance(found, SetValue) else found.reshape(NUMBER, -1)
        for name, found in values.items()
    }


@pytest.fixture(scope="module")
def identical():
    return measure(np.repeat(STIMULI[:, None], REPEATS, axis=1))


@pytest.fixture(scope="module")
def shuffled():
    """Each image beside others', a different one in each repeat."""
    others = [np.roll(STIMULI, shift, axis=0) for shift in (1, 2)]
    return measure(np.stack(others, axis=1))


@pytest.fixture(scope="module")
def noisy():
    return [measure(blend(STIMULI, share)) for share in NOISE]


@pytest.fixture(scope="module")
def darkened():
    """Dark noise, whose set is another one than that of the stimuli."""
    return [measure(blend(STIMULI, share, brightest=60)) for share in NOISE]


# What tables call by plain names is chosen from the conventions later.
MEASURED = [name for name in METRICS if name not in choose_names(JUDGES, Conventions())]
PER_IMAGE = [name for name in MEASURED if METRICS[name].kind != "set" and name != "kernel_distance"]


def test_every_metric_of_the_registries_is_measured_here(identical):
    assert set(identical) == set(MEASURED)


@pytest.mark.parametrize("name", PER_IMAGE)
def test_identical_images_have_the_best_value(name, identical):
    best = BEST[METRICS[name].unit]
    assert identical[name].mean() == pytest.approx(best, abs=1e-6)


@pytest.mark.parametrize("name", [name for name in PER_IMAGE if METRICS[name].unit in CHANCE])
def test_shuffled_pairs_are_at_chance_within_its_interval(name, shuffled):
    found = bootstrap_mean(shuffled[name].mean(axis=1, keepdims=True), BOOTSTRAP)
    stabiliser = 0.05 if METRICS[name].unit == "index" else 0.0  # by which SSIM exceeds 0
    assert found.low[0] - stabiliser <= CHANCE[METRICS[name].unit] <= found.high[0]


@pytest.mark.parametrize("name", sorted(set(PER_IMAGE) - {"consistency"}))
def test_noise_makes_it_worse_step_by_step(name, identical, noisy):
    means = np.array([identical[name].mean(), *(found[name].mean() for found in noisy)])
    sign = 1 if METRICS[name].higher_is_better else -1
    assert (np.diff(sign * means) < 0).all(), means


def test_independent_noise_lowers_the_consistency_of_repeats(identical, noisy):
    means = [found["consistency"].mean() for found in (identical, *noisy)]
    assert (np.diff(means) < 0).all()


@pytest.mark.parametrize("name", ["frechet_distance", "kernel_distance"])
def test_distances_of_sets_grow_with_noise_and_not_when_shuffled(
    name, identical, shuffled, darkened
):
    means = [identical[name].mean(), *(found[name].mean() for found in darkened)]
    assert (np.diff(means) > 0).all()
    assert shuffled[name].mean() < means[0] + 0.01 * (means[1] - means[0])


def test_noise_lowers_the_inception_score(identical, darkened):
    scores = [identical["inception_score"].item()]
    scores += [found["inception_score"].item() for found in darkened]
    assert (np.diff(scores) < 0).all()
