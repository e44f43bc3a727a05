import neuraldiffuser.torchvision_schemas  # noqa: F401

import numpy as np
import pytest
import torch
import torchvision.transforms.v2 as reference
from PIL import Image
from torchvision.transforms import InterpolationMode

from neuraldiffuser.features import images


def test_unit_range_is_torchvisions(pictures):
    expected = [reference.functional.to_image(Image.fromarray(picture)) for picture in pictures]
    expected = torch.stack(expected).float() / 255
    assert torch.equal(images.to_unit_range(pictures), expected)


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [32, 48, 65])
def test_resize_is_torchvisions(pictures, antialias, interpolation, size):
    unit = images.to_unit_range(pictures)
    mode = InterpolationMode(interpolation)
    expected = reference.functional.resize(unit, [size, size], mode, antialias=antialias)
    resized = images.resize(unit, size, antialias=antialias, interpolation=interpolation)
    torch.testing.assert_close(resized, expected, atol=1e-6, rtol=0)


def test_antialias_and_interpolation_matter_when_shrinking(pictures):
    unit = images.to_unit_range(pictures)
    results = [
        images.resize(unit, 20, antialias=antialias, interpolation=interpolation)
        for antialias in (True, False)
        for interpolation in ("bilinear", "bicubic")
    ]
    for first in range(4):
        for second in range(first):
            assert (results[first] - results[second]).abs().max() > 1e-3


@pytest.mark.parametrize("name", list(images.MEANS_AND_DEVIATIONS))
def test_normalise_is_torchvisions(pictures, name):
    unit = images.to_unit_range(pictures)
    mean, deviation = images.MEANS_AND_DEVIATIONS[name]
    expected = reference.functional.normalize(unit, list(mean), list(deviation))
    torch.testing.assert_close(images.normalise(unit, name), expected)


def test_clip_statistics_are_open_clips():
    import open_clip

    assert images.MEANS_AND_DEVIATIONS["clip"] == (
        open_clip.OPENAI_DATASET_MEAN,
        open_clip.OPENAI_DATASET_STD,
    )


@pytest.mark.parametrize("size", [32, 65])
def test_lanczos_is_pils(pictures, size):
    expected = [
        np.asarray(Image.fromarray(picture).resize((size, size), Image.Resampling.LANCZOS))
        for picture in pictures
    ]
    assert np.array_equal(images.resize_with_lanczos(pictures, size), np.stack(expected))


def test_placed_pictures_are_the_same(pictures):
    placed = images.place(pictures, "cpu")
    assert torch.equal(images.to_unit_range(placed), images.to_unit_range(pictures))


def test_lanczos_leaves_the_right_size_alone(pictures):
    assert images.resize_with_lanczos(pictures, 48) is pictures
