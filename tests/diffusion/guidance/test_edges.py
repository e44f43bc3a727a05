"""Edge guidance against SciPy's filters."""

import numpy as np
import pytest
import scipy.ndimage
import torch
from guidance_checks import draw_images, require_exact_gradient, require_separate_images

from neuraldiffuser.config.guidance import EdgesSettings, GuidanceSettings
from neuraldiffuser.diffusion.guidance import GUIDANCE, GuidanceSource
from neuraldiffuser.diffusion.guidance.edges import FAINTEST_EDGE, EdgesGuidance
from neuraldiffuser.features.images import resize

SIZE, BLUR = 16, 1.5


@pytest.fixture
def edges():
    """Where a latent is the image itself."""
    return EdgesGuidance(lambda latents: latents, size=SIZE, blur=BLUR)


@pytest.fixture
def images():
    return draw_images(3, 32, 32, seed=0)


@pytest.fixture
def targets(edges):
    return edges.prepare({"vae_latent": draw_images(3, 32, 32, seed=1)})


def edge_strengths(image: np.ndarray) -> np.ndarray:
    """Blurred Sobel strengths of a small image (3, h, w) without its border, by SciPy."""
    squares = FAINTEST_EDGE**2 * np.ones(image.shape[1:])
    for channel in image:
        for axis in (0, 1):
            squares += (scipy.ndimage.sobel(channel, axis=axis) / 8) ** 2
    inside = np.sqrt(squares[1:-1, 1:-1])
    sums, weights = (
        scipy.ndimage.gaussian_filter(each, BLUR, mode="constant", radius=5)
        for each in (inside, np.ones_like(inside))
    )
    return sums / weights


def test_it_is_one_minus_the_correlation_of_blurred_sobel_strengths(edges, images, targets):
    wanted = draw_images(3, 32, 32, seed=1)
    expected = []
    small = (resize(each, SIZE, antialias=True).numpy() for each in (images, wanted))
    for pair in zip(*small, strict=True):
        maps = (edge_strengths(image).ravel() for image in pair)
        expected.append(1 - np.corrcoef(*maps)[0, 1])
    losses = edges(images, targets)
    assert losses.shape == (3,)
    assert np.allclose(losses, expected)


def test_its_gradient_is_exact(edges, images, targets):
    require_exact_gradient(edges, images, targets)


def test_it_keeps_images_apart(edges, images, targets):
    require_separate_images(edges, images, targets)


def test_it_is_zero_at_its_own_target_alone(edges, images):
    targets = edges.prepare({"vae_latent": images})
    assert torch.allclose(edges(images, targets), torch.zeros(3).double())
    assert (edges(images.flip(0), targets)[[0, 2]] > 0.5).all()


def test_neither_contrast_nor_colour_counts_but_where_edges_are(edges):
    square = torch.zeros(1, 3, 32, 32).double()
    square[..., 8:20, 8:20] = 1
    targets = edges.prepare({"vae_latent": square})
    negative, faint, blue = 1 - square, 0.4 + 0.2 * square, square.clone()
    blue[:, :2] = 0.5
    for alike in (negative, faint, blue):
        assert edges(alike, targets) < 1e-3
    assert edges(square.roll(9, dims=3), targets) > 0.5


def test_a_flat_image_has_a_finite_gradient(edges, targets):
    flat = torch.full((3, 3, 32, 32), 0.5, dtype=torch.float64, requires_grad=True)
    losses = edges(flat, targets)
    losses.sum().backward()
    assert torch.allclose(losses, torch.ones(3).double())
    assert flat.grad.isfinite().all()


def test_without_blur_strengths_stay_as_they_are(images):
    sharp, blurred = (
        EdgesGuidance(lambda latents: latents, size=SIZE, blur=blur) for blur in (0.0, 0.2)
    )
    assert torch.allclose(sharp.describe(images), blurred.describe(images), rtol=1e-3)
    assert sharp.describe(images).isfinite().all()


def test_the_blur_forgives_small_shifts(images):
    shifted = images.roll(2, dims=3)
    losses = []
    for blur in (0.5, 3.0):
        function = EdgesGuidance(lambda latents: latents, size=32, blur=blur)
        losses.append(function(shifted, function.prepare({"vae_latent": images})))
    assert (losses[1] < 0.7 * losses[0]).all()


def test_it_is_built_from_its_settings_and_the_samplers_decoder(edges, images):
    shown = draw_images(3, 32, 32, seed=1)

    def losses(**changes):
        settings = EdgesSettings(**{"size": SIZE, "blur": BLUR} | changes)
        source = GuidanceSource(
            GuidanceSettings(edges=settings), clip_image=None, paths={}, decode=lambda _: shown
        )
        function = GUIDANCE["edges"](source)
        return function(images, function.prepare({"vae_latent": torch.zeros(3, 4, 2, 2)}))

    assert torch.equal(losses(), edges(images, edges.prepare({"vae_latent": shown})))
    for changes in ({"size": 12}, {"blur": 1.0}):
        assert not torch.isclose(losses(**changes), losses()).any()
