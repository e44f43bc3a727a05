import colorsys
import math

import torch

from neuraldiffuser.decoders.augmentation import augment, blur, crop, to_grey, turn_hue

IMAGES = torch.rand(64, 3, 16, 20, generator=torch.Generator().manual_seed(0))


def full(value):
    return torch.full((len(IMAGES), 1, 1, 1), float(value))


def test_views_keep_shape_and_range_and_follow_their_generator():
    views = [augment(IMAGES, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert views[0].shape == IMAGES.shape
    assert views[0].min() >= 0 and views[0].max() <= 1
    assert torch.equal(views[0], views[1]) and not torch.equal(views[0], views[2])
    assert not torch.allclose(views[0], IMAGES)


def test_about_a_fifth_of_the_views_is_grey():
    many = IMAGES.repeat(20, 1, 1, 1)
    views = augment(many, torch.Generator().manual_seed(0))
    grey = (views[:, 0] - views[:, 1]).abs().amax(dim=(1, 2)) < 1e-5
    assert 0.16 < float(grey.float().mean()) < 0.24


def test_a_whole_window_is_the_image_itself():
    whole = crop(IMAGES, area=full(1), ratio=full(1), across=full(0.3), down=full(-1))
    torch.testing.assert_close(whole, IMAGES, atol=1e-5, rtol=1e-5)


def test_a_quarter_window_at_the_upper_left_is_the_enlarged_quarter():
    view = crop(IMAGES, area=full(0.25), ratio=full(1), across=full(-1), down=full(-1))
    expected = torch.nn.functional.interpolate(
        IMAGES[..., :8, :10], scale_factor=2, mode="bilinear"
    )
    torch.testing.assert_close(view[..., 2:13, 2:17], expected[..., 2:13, 2:17], atol=1e-5, rtol=0)


def test_blur_is_a_weighted_mean():
    torch.testing.assert_close(blur(torch.ones_like(IMAGES), full(1.5)), torch.ones_like(IMAGES))
    torch.testing.assert_close(blur(IMAGES, full(0.1)), IMAGES, atol=1e-5, rtol=0)
    assert blur(IMAGES, full(2)).var() < IMAGES.var()


def test_hue_turns_red_into_green_by_a_third_of_a_turn():
    red = torch.tensor([0.6, 0.2, 0.2])[None, :, None, None]
    turned = turn_hue(red, torch.full((1, 1, 1, 1), 2 * math.pi / 3)).flatten()
    hue = colorsys.rgb_to_hsv(*turned.tolist())[0]
    assert abs(hue - 1 / 3) < 1e-4


def test_grey_is_luma():
    expected = 0.299 * IMAGES[:, 0] + 0.587 * IMAGES[:, 1] + 0.114 * IMAGES[:, 2]
    torch.testing.assert_close(to_grey(IMAGES)[:, 2], expected)
