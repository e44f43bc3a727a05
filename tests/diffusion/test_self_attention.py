"""Parts of self-attention guidance against diffusers' and SciPy's; test_pipelines has the whole."""

import numpy as np
import peer_pipelines
import pytest
import scipy.ndimage
import torch

from neuraldiffuser.diffusion.schedule import Step
from neuraldiffuser.diffusion.self_attention import (
    attention_mask,
    blur_matrix,
    degrade,
    gaussian_blur,
)


@pytest.mark.parametrize("size", [(8, 8), (64, 64), (9, 12)])
def test_blur_is_that_of_diffusers(size):
    images = torch.randn(2, 4, *size, generator=torch.Generator().manual_seed(0))
    expected = peer_pipelines.import_sag().gaussian_blur_2d(images, kernel_size=9, sigma=1.0)
    assert torch.allclose(gaussian_blur(images), expected, atol=1e-6)


def test_blur_is_a_gaussian_filter_also_where_it_is_wider_than_the_latent():
    images = np.random.default_rng(0).standard_normal((1, 1, 3, 4))
    blurred = gaussian_blur(torch.from_numpy(images))[0, 0].numpy()
    expected = scipy.ndimage.gaussian_filter(images[0, 0], sigma=1.0, mode="mirror", truncate=4.0)
    assert np.allclose(blurred, expected, atol=1e-12)
    assert np.allclose(blur_matrix(3).sum(axis=1), 1)


def test_mask_marks_places_above_their_share():
    received = torch.tensor([[[0.5, 1.5], [1.0, 1.01]]])
    mask = attention_mask(received, (4, 4))
    assert mask.shape == (1, 1, 4, 4)
    assert mask[0, 0].tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 1, 1]]


def test_nothing_attended_leaves_the_latents_alone():
    z, noise = torch.randn(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0)).double()
    same = degrade(z, noise, attention=torch.zeros(1, 4, 4), step=Step(500, 0.3, 0.4))
    assert torch.allclose(same, z, atol=1e-12)
