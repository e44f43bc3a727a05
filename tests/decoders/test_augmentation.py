import colorsys
import math

import torch

from neuraldiffuser.decoders.augmentation import (
    Draws,
    augment,
    blur,
    crop,
    solarise,
    to_grey,
    turn_hue,
)
from neuraldiffuser.decoders.parallel import Share

IMAGES = torch.rand(64, 3, 16, 20, generator=torch.Generator().manual_seed(0))


def full(value):
    return torch.full((len(IMAGES), 1, 1, 1), float(value))


def draws(seed, count=len(IMAGES), share=Share()):  # noqa: B008  (frozen)
    return Draws(count, torch.Generator().manual_seed(seed), share)


def test_views_keep_shape_and_range_and_follow_their_generator():
    views = [augment(IMAGES, draws(seed)) for seed in (1, 1, 2)]
    assert views[0].shape == IMAGES.shape
    assert views[0].min() >= 0 and views[0].max() <= 1
    assert torch.equal(views[0], views[1]) and not torch.equal(views[0], views[2])
    assert not torch.allclose(views[0], IMAGES)


def test_an_images_view_is_the_same_in_any_share():
    whole = augment(IMAGES, draws(3))
    for index in range(3):
        share = Share(index, 3)
        torch.testing.assert_close(
            augment(share.take(IMAGES), draws(3, share=share)), whole[index::3]
        )


def test_about_a_fifth_of_the_views_is_grey():
    many = IMAGES.repeat(20, 1, 1, 1)
    views = augment(many, draws(0, len(many)))
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


def test_solarising_brightens_and_then_inverts_what_is_bright():
    levels = torch.tensor([0.0, 0.3, 0.45, 0.6, 0.97])[None, None, None].expand(1, 3, 1, 5)
    added, threshold = torch.tensor([0.1, 0.5])[:, None, None, None, None]
    expected = torch.tensor([0.1, 0.4, 0.45, 0.3, 0.0])
    torch.testing.assert_close(
        solarise(levels, added=added, threshold=threshold)[0, 1, 0], expected
    )
    darker = solarise(levels, added=-added, threshold=threshold)[0, 2, 0]
    torch.testing.assert_close(darker, torch.tensor([0.0, 0.2, 0.35, 0.5, 0.13]))


def test_hue_turns_red_into_green_by_a_third_of_a_turn():
    red = torch.tensor([0.6, 0.2, 0.2])[None, :, None, None]
    turned = turn_hue(red, torch.full((1, 1, 1, 1), 2 * math.pi / 3)).flatten()
    hue = colorsys.rgb_to_hsv(*turned.tolist())[0]
    assert abs(hue - 1 / 3) < 1e-4


def test_grey_is_luma():
    expected = 0.299 * IMAGES[:, 0] + 0.587 * IMAGES[:, 1] + 0.114 * IMAGES[:, 2]
    torch.testing.assert_close(to_grey(IMAGES)[:, 2], expected)
