"""Colour guidance against a loop over cells."""

import numpy as np
import pytest
import torch
from guidance_checks import draw_images, require_exact_gradient, require_separate_images

from neuraldiffuser.config.guidance import ColorSettings, GuidanceSettings
from neuraldiffuser.diffusion.guidance import GUIDANCE, GuidanceSource
from neuraldiffuser.diffusion.guidance.color import ColorGuidance
from neuraldiffuser.errors import ConfigError


@pytest.fixture
def color():
    """On a grid of four by four, where a latent is the image itself."""
    return ColorGuidance(lambda latents: latents, grid=4)


@pytest.fixture
def images():
    return draw_images(3, 12, 20, seed=0)


@pytest.fixture
def targets(color):
    return color.prepare({"vae_latent": draw_images(3, 12, 20, seed=1)})


def test_it_is_the_sum_over_cells_and_channels(color, images, targets):
    wanted = draw_images(3, 12, 20, seed=1)
    expected = np.zeros(3)
    for n in range(3):
        for channel in range(3):
            for y in range(4):
                for x in range(4):
                    cell = (n, channel, slice(3 * y, 3 * y + 3), slice(5 * x, 5 * x + 5))
                    difference = images.numpy()[cell].mean() - wanted.numpy()[cell].mean()
                    expected[n] += difference**2
    losses = color(images, targets)
    assert losses.shape == (3,)
    assert np.allclose(losses, expected)


def test_its_gradient_is_exact(color, images, targets):
    require_exact_gradient(color, images, targets)


def test_it_keeps_images_apart(color, images, targets):
    require_separate_images(color, images, targets)


def test_it_is_zero_at_its_own_target_alone(color, images):
    targets = color.prepare({"vae_latent": images})
    assert not color(images, targets).any()
    assert (color(images.flip(0), targets)[[0, 2]] > 0.1).all()


def test_detail_within_a_cell_does_not_count(color, images):
    targets = color.prepare({"vae_latent": images})
    rows = torch.cat([images[:, :, start : start + 3].flip(2) for start in range(0, 12, 3)], dim=2)
    assert not torch.equal(rows, images)
    assert torch.allclose(color(rows, targets), torch.zeros(3).double())


@pytest.mark.parametrize("grid", [3, 8])
def test_a_grid_that_does_not_fit_is_refused(images, grid):
    with pytest.raises(ConfigError) as error:
        ColorGuidance(lambda latents: latents, grid=grid).describe(images)
    assert str(error.value) == (
        f"reconstruction.guidance.color.grid is {grid}, which does not divide images of 12 x 20"
        " pixels; name a divisor."
    )


def test_it_is_built_from_its_settings_and_the_samplers_decoder(images):
    def losses(grid):
        settings = GuidanceSettings(color=ColorSettings(grid=grid))
        source = GuidanceSource(settings, clip_image=None, paths={}, decode=torch.square)
        function = GUIDANCE["color"](source)
        return function(images, function.prepare({"vae_latent": images}))

    expected = (images - images.square()).mean(dim=(2, 3)).square().sum(dim=1)
    assert torch.allclose(losses(1), expected)
    assert (losses(4) > 2 * expected).all()
