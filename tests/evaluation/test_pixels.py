"""PixCorr, SSIM and consistency against numpy and scikit-image."""

import numpy as np
import pytest
import torch
from skimage.color import rgb2gray
from skimage.metrics import structural_similarity

from neuraldiffuser.errors import ConfigError
from neuraldiffuser.evaluation import pixels
from neuraldiffuser.evaluation.consistency import repeat_consistency
from neuraldiffuser.evaluation.correlation import correlate_all

NO_RESIZE = (None, 24)


def draw_images(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, size=(*shape, 24, 24, 3), dtype=np.uint8)


def blend(images, others, share):
    return np.rint((1 - share) * images + share * others).astype(np.uint8)


@pytest.fixture(scope="module")
def stimuli():
    """Smooth pictures, one random."""
    y, x = np.mgrid[:24, :24] / 23
    waves = [np.stack([y, x, np.sin(k * x * y)], axis=-1) for k in range(1, 5)]
    smooth = np.rint(np.abs(waves) * 255).astype(np.uint8)
    return np.concatenate([smooth, draw_images(1)])


@pytest.fixture(scope="module")
def reconstructions(stimuli):
    """Three repeats, each noisier than the one before."""
    noise = draw_images(5, seed=1)
    return np.stack([blend(stimuli, noise, share) for share in (0.1, 0.4, 0.8)], axis=1)


def measure(stimuli, reconstructions, *, sizes=NO_RESIZE):
    return pixels.measure_pixels(stimuli, reconstructions, sizes=sizes)


def test_pixcorr_is_numpys(stimuli, reconstructions):
    found = measure(stimuli, reconstructions)["pixcorr"]
    for image, repeat in np.ndindex(5, 3):
        pair = stimuli[image].ravel() / 255, reconstructions[image, repeat].ravel() / 255
        assert found[image, repeat] == pytest.approx(np.corrcoef(*pair)[0, 1], abs=1e-6)


WINDOW = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
REFERENCES = {"ssim_2d": WINDOW, "ssim_columns": WINDOW | {"channel_axis": 1}}


@pytest.mark.parametrize("name", REFERENCES)
def test_ssim_is_scikit_images(name, stimuli, reconstructions):
    found = measure(stimuli, reconstructions)[name]
    for image, repeat in np.ndindex(5, 3):
        pair = rgb2gray(stimuli[image]), rgb2gray(reconstructions[image, repeat])
        expected = structural_similarity(*pair, **REFERENCES[name])
        assert found[image, repeat] == pytest.approx(expected, abs=1e-5)


def test_the_two_conventions_of_ssim_differ(stimuli, reconstructions):
    found = measure(stimuli, reconstructions)
    assert np.abs(found["ssim_2d"] - found["ssim_columns"]).min() > 1e-4


def resize_like_peers(image):
    """To 256 and then to 425 pixels a side in [0, 1], by torchvision as MindEye's code calls it."""
    import neuraldiffuser.torchvision_schemas  # noqa: F401  before torchvision

    from torchvision.transforms import Resize

    picture = torch.from_numpy(image).permute(2, 0, 1) / 255
    for size in (256, 425):
        picture = Resize((size, size))(picture)
    return picture.permute(1, 2, 0).numpy()


def test_values_at_full_size_are_those_of_the_peers_from_the_images_on():
    """A drawn picture and noise at NSD's sizes, each metric by the peers' own calls."""
    y, x = np.mgrid[:512, :512] / 511
    picture = np.stack([y, (np.hypot(x - 0.5, y - 0.4) < 0.3) * 1.0, np.sin(20 * x * y) ** 2], -1)
    drawn = np.rint(picture * 255).astype(np.uint8)
    noise = np.random.default_rng(0).integers(0, 256, size=(512, 512, 3), dtype=np.uint8)
    stimuli = np.stack([drawn, noise])
    repeats = np.stack([np.stack([blend(s, noise[::-1], k) for k in (0.2, 0.7)]) for s in stimuli])
    found = measure(stimuli[:, :425, :425], repeats, sizes=(256, 425))
    for image, repeat in np.ndindex(2, 2):
        pair = [
            resize_like_peers(stimuli[image, :425, :425]),
            resize_like_peers(repeats[image, repeat]),
        ]
        correlation = np.corrcoef(*(one.ravel() for one in pair))[0, 1]
        assert found["pixcorr"][image, repeat] == pytest.approx(correlation, abs=1e-6)
        for name, settings in REFERENCES.items():
            expected = structural_similarity(*map(rgb2gray, pair), **settings)
            assert found[name][image, repeat] == pytest.approx(expected, abs=1e-5)


def test_images_smaller_than_the_window_are_refused(stimuli):
    with pytest.raises(ConfigError) as error:
        measure(stimuli, stimuli[:, None], sizes=(None, 10))
    assert str(error.value) == (
        "SSIM needs images of 11 pixels a side, but they have 10; raise evaluation.image_size."
    )


def test_identical_images_are_best_and_noise_makes_them_worse(stimuli, reconstructions):
    same = measure(stimuli, stimuli[:, None])
    assert same["pixcorr"] == pytest.approx(1)
    assert same["ssim_2d"] == pytest.approx(1)
    assert same["ssim_columns"] == pytest.approx(1)
    noisy = measure(stimuli, reconstructions)
    for name in ("pixcorr", "ssim_2d", "ssim_columns"):
        assert (np.diff(noisy[name], axis=1) < 0).all()


def test_shuffled_images_do_not_correlate():
    images = draw_images(40)
    found = measure(images, np.roll(images, 1, axis=0)[:, None])["pixcorr"]
    assert abs(found.mean()) < 0.01


def test_consistency_is_the_mean_over_pairs(stimuli, reconstructions):
    found = measure(stimuli, reconstructions)["consistency"]
    for image in range(5):
        pairs = np.corrcoef(reconstructions[image].reshape(3, -1) / 255)
        expected = pairs[np.triu_indices(3, k=1)].mean()
        assert found[image] == pytest.approx(expected, abs=1e-6)


def test_identical_repeats_are_consistent_and_constant_ones_count_as_zero():
    repeats = torch.rand(1, 1, 30, generator=torch.manual_seed(0)).expand(1, 3, 30)
    assert repeat_consistency(correlate_all(repeats)).item() == pytest.approx(1)
    assert repeat_consistency(correlate_all(torch.ones(1, 3, 30))).item() == 0


def test_one_repeat_has_no_consistency(stimuli):
    assert "consistency" not in measure(stimuli, stimuli[:, None])


def test_a_grey_reconstruction_counts_as_uncorrelated(stimuli):
    grey = np.full_like(stimuli[:, None], 128)
    assert (measure(stimuli, grey)["pixcorr"] == 0).all()


@pytest.mark.parametrize("value", [77, 128, 255])
def test_resizing_gives_a_grey_image_no_pattern(value):
    """Rounding leaves the same faint one in every repeat, but for one pixel that differs."""
    stimulus = np.random.default_rng(0).integers(0, 256, size=(1, 425, 425, 3), dtype=np.uint8)
    grey = np.full((1, 2, 512, 512, 3), value, np.uint8)
    found = pixels.measure_pixels(stimulus, grey, sizes=(None, 425))
    assert (found["pixcorr"] == 0).all() and found["consistency"].item() == 0
    grey[:, :, 5, 5, 0] -= 1
    found = pixels.measure_pixels(stimulus, grey, sizes=(None, 425))
    assert (found["pixcorr"] != 0).all() and found["consistency"].item() > 0.9


def test_both_sizes_change_the_values(stimuli, reconstructions):
    found = [
        measure(stimuli, reconstructions, sizes=sizes)["pixcorr"]
        for sizes in (NO_RESIZE, (None, 16), (12, 24))
    ]
    assert np.abs(found[0] - found[1]).max() > 1e-3
    assert np.abs(found[0] - found[2]).max() > 1e-3


def test_stimuli_and_reconstructions_may_differ_in_size(stimuli, reconstructions):
    smooth = stimuli[:4]  # noise would not survive the way there and back
    enlarged = np.repeat(np.repeat(smooth, 2, axis=1), 2, axis=2)
    found = measure(enlarged, reconstructions[:4])["pixcorr"]
    expected = measure(smooth, reconstructions[:4])["pixcorr"]
    np.testing.assert_allclose(found, expected, atol=0.002)


def test_batches_do_not_change_the_values(stimuli, reconstructions, monkeypatch):
    whole = measure(stimuli, reconstructions)
    monkeypatch.setattr(pixels, "IMAGES_AT_ONCE", 2)
    for name, values in measure(stimuli, reconstructions).items():
        np.testing.assert_allclose(values, whole[name], rtol=1e-12)
