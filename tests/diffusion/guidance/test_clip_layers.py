"""Losses against loops over the equations; guidance functions refuse what does not fit."""

import numpy as np
import pytest
import torch
from tiny_engine import make_source

from neuraldiffuser.config.targets import ClipImageSettings
from neuraldiffuser.diffusion.guidance import GUIDANCE
from neuraldiffuser.diffusion.guidance.clip_layers import GUIDANCE_LOSSES, ClipLayersGuidance
from neuraldiffuser.errors import ConfigError, DataError

WEIGHTS = (1.5, 1.2, 1.0)
LAYERS = ("clip_image_02", "clip_image_04", "clip_image_06")


@pytest.fixture
def pair():
    """Features and targets of two images in three layers of unequal sizes and norms."""
    generator = torch.Generator().manual_seed(0)

    def draw():
        return {
            name: (k + 1) * torch.randn(2, 3 + k, 4, generator=generator, dtype=torch.float64)
            for k, name in enumerate(LAYERS)
        }

    return draw(), draw()


def test_sum_squares_is_equation_14(pair):
    features, targets = pair
    expected = [
        sum(float(((features[name][k] - targets[name][k]).numpy() ** 2).sum()) for name in LAYERS)
        for k in range(2)
    ]
    losses = GUIDANCE_LOSSES["sum_squares"](features, targets, WEIGHTS)
    assert np.allclose(losses, expected)


def test_weighted_mean_is_the_released_code_for_each_image(pair):
    features, targets = pair
    expected = []
    for k in range(2):
        inverse = [1 / np.linalg.norm(targets[name][k].numpy()) for name in LAYERS]
        weights = [w * i / sum(inverse) for w, i in zip(WEIGHTS, inverse, strict=True)]
        means = [((features[n][k] - targets[n][k]).numpy() ** 2).mean() for n in LAYERS]
        expected.append(np.dot(weights, means))
    losses = GUIDANCE_LOSSES["weighted_mean"](features, targets, WEIGHTS)
    assert np.allclose(losses, expected)


@pytest.mark.parametrize("name", GUIDANCE_LOSSES)
def test_losses_are_one_per_image_and_zero_at_the_target(pair, name):
    features, targets = pair
    losses = GUIDANCE_LOSSES[name](features, targets, WEIGHTS)
    assert losses.shape == (2,)
    assert (losses > 0).all()
    assert torch.equal(GUIDANCE_LOSSES[name](targets, targets, WEIGHTS), torch.zeros(2).double())


def test_layer_weights_change_the_weighted_loss_alone(pair):
    features, targets = pair
    for name, expected in (("weighted_mean", False), ("sum_squares", True)):
        loss = GUIDANCE_LOSSES[name]
        same = torch.equal(
            loss(features, targets, WEIGHTS), loss(features, targets, (1.0, 1.0, 1.0))
        )
        assert same is expected


def test_clip_layers_reads_the_layers_it_names(guidance):
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)).double()
    features = guidance.network(images)
    targets = {f"clip_image_{k:02d}": torch.zeros_like(f) for k, f in features.items()}
    expected = sum(f.square().flatten(1).sum(dim=1) for f in features.values())
    assert guidance.targets == tuple(f"clip_image_{k:02d}" for k in (2, 4, 6, 8, 10, 12))
    assert torch.allclose(guidance(images, targets), expected)


def test_a_target_of_another_model_is_refused(guidance):
    images = torch.rand(1, 3, 32, 32).double()
    targets = {name: torch.zeros(1, 50, 768).double() for name in guidance.targets}
    with pytest.raises(DataError) as error:
        guidance(images, targets)
    assert str(error.value) == (
        "Embeddings of clip_image_02 have shape (50, 768), but the CLIP image tower gives (17, 16);"
        " decode them for the model that models.clip_image names."
    )


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_targets_without_a_norm_are_refused(guidance, value):
    """Before a step is taken: their share of the loss would not be a number."""
    targets = {name: torch.ones(3, 17, 16).double() for name in guidance.targets}
    assert guidance.prepare(targets) is targets
    targets["clip_image_08"][1] = value
    with pytest.raises(DataError) as error:
        guidance.prepare(targets)
    assert str(error.value) == (
        "Embeddings of clip_image_08 are zero throughout or not finite for 1 of 3 samples; decode"
        " them anew."
    )


def test_weights_that_do_not_match_the_layers_are_refused(guidance):
    with pytest.raises(ConfigError) as error:
        ClipLayersGuidance(guidance.network, layers=(2, 4), loss="sum_squares", weights=WEIGHTS)
    assert str(error.value) == (
        "reconstruction.guidance.clip_layers.layer_weights has 3 weights, but"
        " targets.clip_image.layers has 2 layers; give one weight per layer."
    )


def test_the_nodes_settings_reach_the_network(path_to_clip):
    images = torch.rand(1, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    losses = set()
    for node in ("block_output", "mlp_projection"):
        for normalisation in ("clip", "imagenet"):
            for antialias in (True, False):
                clip_image = ClipImageSettings(
                    node=node, normalisation=normalisation, antialias=antialias
                )
                function = GUIDANCE["clip_layers"](make_source(path_to_clip, clip_image))
                targets = {name: torch.zeros(1, 17, 16) for name in function.targets}
                losses.add(float(function(images, targets)))
    assert len(losses) == 8
