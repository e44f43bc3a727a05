"""Brain-encoding guidance against plain loops, and its effect on voxels that are known."""

from typing import get_args

import numpy as np
import pytest
import torch
from guidance_checks import draw_images, require_exact_gradient, require_separate_images
from planted_responses import SETTINGS, as_stored, draw_pictures, plant, respond

from neuraldiffuser import storage
from neuraldiffuser.config.guidance import EncoderSettings, GuidanceSettings, Region
from neuraldiffuser.config.targets import ClipImageSettings
from neuraldiffuser.diffusion.guidance import GUIDANCE, GuidanceSource
from neuraldiffuser.diffusion.guidance.encoder import (
    ENCODER_LOSSES,
    WEIGHTINGS,
    EncoderGuidance,
    choose_guiding_voxels,
)
from neuraldiffuser.encoding.prediction import save_encoder
from neuraldiffuser.encoding.training import train_gnet
from neuraldiffuser.errors import ConfigError, DataError
from neuraldiffuser.features.images import to_unit_range
from neuraldiffuser.nsd import rois

VOXELS = 4
ALL = np.ones(VOXELS, bool)
WEIGHTS = np.array([1.0, 3.0, 0.5, 2.0])


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """Fitted to the redness of the four quarters of pictures, in float64."""
    fitted, _ = train_gnet(
        plant(320, seed=0),
        plant(40, seed=1),
        settings=SETTINGS,
        seed=0,
        device="cpu",
        path_to_checkpoint=tmp_path_factory.mktemp("encoder") / "partial",
    )
    return fitted.double().requires_grad_(False)


@pytest.fixture
def images():
    return draw_images(3, 32, 32, seed=0)


@pytest.fixture
def measured():
    return torch.from_numpy(np.random.default_rng(0).normal(size=(3, VOXELS)))


def guide(encoder, *, loss, guiding=ALL, weights=WEIGHTS):
    return EncoderGuidance(encoder, guiding=guiding, weights=weights, loss=loss)


every_loss = pytest.mark.parametrize("loss", ENCODER_LOSSES)

# --- losses -------------------------------------------------------------------------------


def test_mean_squares_are_those_of_a_loop(encoder, images, measured):
    function = guide(encoder, loss="mean_squares")
    losses = function(images, function.prepare({"voxels": measured}))
    predicted = encoder(images)
    assert losses.shape == (3,)
    for row in range(3):
        total = 0.0
        for voxel in range(VOXELS):
            total += WEIGHTS[voxel] * float(predicted[row, voxel] - measured[row, voxel]) ** 2
        assert losses[row].item() == pytest.approx(total / WEIGHTS.sum(), rel=1e-12)


def test_correlation_is_numpys(encoder, images, measured):
    function = guide(encoder, loss="correlation")
    losses = function(images, function.prepare({"voxels": measured}))
    for row, predicted in enumerate(encoder(images).numpy()):
        matrix = np.cov(predicted, measured[row].numpy(), aweights=WEIGHTS)
        r = matrix[0, 1] / np.sqrt(matrix[0, 0] * matrix[1, 1])
        assert losses[row].item() == pytest.approx(1 - r, rel=1e-10)


@every_loss
def test_its_gradient_is_exact(encoder, images, measured, loss):
    function = guide(encoder, loss=loss)
    require_exact_gradient(function, images, function.prepare({"voxels": measured}))


@every_loss
def test_it_keeps_images_apart(encoder, images, measured, loss):
    function = guide(encoder, loss=loss)
    require_separate_images(function, images, function.prepare({"voxels": measured}))


@every_loss
def test_it_is_zero_at_its_own_target_alone(encoder, images, loss):
    function = guide(encoder, loss=loss)
    targets = function.prepare({"voxels": encoder(images)})
    assert function(images, targets).abs().max() < 1e-12
    assert (function(images.flip(0), targets)[[0, 2]] > 1e-3).all()


def test_correlation_ignores_what_all_voxels_share(encoder, images, measured):
    function = guide(encoder, loss="correlation")
    losses = [
        function(images, function.prepare({"voxels": values}))
        for values in (measured, 3 * measured + 2)
    ]
    torch.testing.assert_close(*losses)


@every_loss
def test_other_voxels_do_not_guide(encoder, images, measured, loss):
    guiding = np.array([True, False, True, True])
    function = guide(encoder, loss=loss, guiding=guiding)
    before = function(images, function.prepare({"voxels": measured}))
    changed = measured.clone()
    changed[:, 1] += 5
    assert torch.equal(function(images, function.prepare({"voxels": changed})), before)
    changed[:, 2] += 5
    assert (function(images, function.prepare({"voxels": changed})) != before).all()


def test_voxels_of_another_subject_are_refused(encoder):
    with pytest.raises(DataError) as error:
        guide(encoder, loss="mean_squares").prepare({"voxels": torch.zeros(2, 5)})
    assert str(error.value) == (
        "5 voxels were measured, but the encoder answers for 4; train the encoder on this"
        " subject's voxels."
    )


@every_loss
def test_it_leads_to_a_picture_that_the_brain_answers_alike(encoder, loss):
    """Judged by the voxels' own rule, which the encoder only approximates."""
    goal, start = draw_pictures(8, seed=7), to_unit_range(draw_pictures(8, seed=8)).double()
    measured = respond(goal, noise=0.3, seed=9)
    function = guide(encoder, loss=loss, weights=np.ones(VOXELS))
    targets = function.prepare({"voxels": torch.from_numpy(measured).double()})
    images = start.clone()
    for _ in range(40):
        leaf = images.requires_grad_()
        (gradient,) = torch.autograd.grad(function(leaf, targets).sum(), leaf)
        images = (leaf - 0.02 * gradient / gradient.abs().amax()).detach().clamp(0, 1)

    def agreement(pictures):
        found = respond((255 * pictures).permute(0, 2, 3, 1).numpy(), noise=0, seed=0)
        return np.mean([np.corrcoef(*pair)[0, 1] for pair in zip(found, measured, strict=True)])

    assert agreement(images) > agreement(start) + 0.3


# --- which voxels guide -------------------------------------------------------------------

LABELS = np.random.default_rng(0).permutation(np.repeat([0, 1, 2, 3, 7], [40, 10, 11, 20, 19]))


@pytest.mark.parametrize(
    ("regions", "labels"),
    [(["nsdgeneral"], {0, 1, 2, 3, 7}), (["V1", "V4"], {1, 2, 7}), (["higher", "V2"], {0, 3})],
)
def test_regions_are_unions_of_their_labels(regions, labels):
    guiding = choose_guiding_voxels(LABELS, EncoderSettings(regions=regions), seed=0)
    assert np.array_equal(guiding, np.isin(LABELS, list(labels)))


def test_every_known_region_can_guide():
    assert set(get_args(Region)) == set(rois.regions(LABELS))


@pytest.mark.parametrize("share", [0.5, 0.25])
def test_every_area_keeps_voxels_that_do_not_guide(share):
    guiding = choose_guiding_voxels(LABELS, EncoderSettings(share=share), seed=0)
    assert guiding.sum() == int(100 * share)
    for label in np.unique(LABELS):
        found, all_of_them = guiding[label == LABELS].sum(), (label == LABELS).sum()
        assert abs(found - share * all_of_them) < 1


def test_the_choice_is_seeded_and_even():
    settings = EncoderSettings(share=0.3)
    chosen = [choose_guiding_voxels(LABELS, settings, seed=seed) for seed in range(200)]
    assert np.array_equal(chosen[0], choose_guiding_voxels(LABELS, settings, seed=0))
    assert not np.array_equal(chosen[0], chosen[1])
    # Standard error of a voxel's frequency: 0.03.
    assert np.abs(np.mean(chosen, axis=0) - 0.3).max() < 0.15


def test_weights_are_equal_or_explained_variance():
    correlation = np.array([0.5, -0.4, 0.0, 0.1], np.float32)
    np.testing.assert_allclose(WEIGHTINGS["equal"](correlation), 1)
    np.testing.assert_allclose(WEIGHTINGS["accuracy"](correlation), [0.25, 0, 0, 0.01], rtol=1e-6)


# --- from files ---------------------------------------------------------------------------


@pytest.fixture
def paths(encoder, tmp_path):
    """An encoder as train_encoder leaves it."""
    paths = {"encoder": tmp_path / "subj01.safetensors", "accuracy": tmp_path / "subj01.h5"}
    save_encoder(paths["encoder"], as_stored(encoder), settings=SETTINGS.network, metadata={})
    write_accuracy(paths["accuracy"])
    return paths


def write_accuracy(path, *, test=(0.1, 0.2, 0.3, 0.4), held_out=(0.4, 0.1, 0.0, 0.2)):
    arrays = {"roi": np.array([1, 1, 3, 0], np.uint8)}
    arrays |= {"correlation": np.array(test), "held_out_correlation": np.array(held_out)}
    storage.write_arrays(path, arrays)


def build(paths, *, seed=0, **changes):
    function = GUIDANCE["encoder"](
        GuidanceSource(
            settings=GuidanceSettings(encoder=EncoderSettings(**changes)),
            clip_image=ClipImageSettings(),
            paths=paths,
            decode=lambda latents: latents,
            seed=seed,
        )
    )
    function.encoder.double()
    return function


def measure(function, images, measured):
    return function(images, function.prepare({"voxels": measured}))


def test_the_stored_encoder_guides(paths, encoder, images, measured):
    expected = guide(encoder, loss="mean_squares", weights=np.ones(VOXELS))
    found = measure(build(paths), images, measured)
    torch.testing.assert_close(found, measure(expected, images, measured), rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    "changes",
    [
        {"loss": "correlation"},
        {"regions": ["V1", "V2"]},
        {"share": 0.5},
        {"weighting": "accuracy"},
    ],
)
def test_every_setting_changes_the_loss(paths, images, measured, changes):
    before = measure(build(paths), images, measured)
    assert ((measure(build(paths, **changes), images, measured) - before).abs() > 1e-3).all()


def test_the_seed_changes_which_voxels_guide(paths, images, measured):
    losses = [measure(build(paths, share=0.5, seed=seed), images, measured) for seed in range(5)]
    assert len({tuple(loss.tolist()) for loss in losses}) > 1


def test_weights_are_learnt_on_training_images(paths, images, measured):
    before = measure(build(paths, weighting="accuracy"), images, measured)
    write_accuracy(paths["accuracy"], test=(0.9, 0.1, 0.1, 0.0))
    assert torch.equal(measure(build(paths, weighting="accuracy"), images, measured), before)
    write_accuracy(paths["accuracy"], held_out=(0.1, 0.4, 0.3, 0.0))
    after = measure(build(paths, weighting="accuracy"), images, measured)
    assert (after != before).all()


@pytest.mark.parametrize("changes", [{"regions": ["V4"]}, {"share": 0.2}, {"regions": ["V2"]}])
def test_some_voxel_must_guide(paths, changes):
    with pytest.raises(ConfigError) as error:
        build(paths, weighting="accuracy", **changes)
    regions = changes.get("regions", ["nsdgeneral"])[0]
    assert str(error.value) == (
        f"reconstruction.guidance.encoder leaves no voxel that guides: regions {regions}, share"
        f" {changes.get('share', 1.0)}, weighting accuracy; choose more regions, a larger share or"
        " equal weights."
    )
