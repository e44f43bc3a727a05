"""The encoding model: receptive fields, tuning, signal variance and noise as planned."""

import numpy as np
import pytest

from neuraldiffuser.mini import brains, scenes
from neuraldiffuser.nsd.noise_ceiling import noise_ceiling


@pytest.fixture(scope="module")
def drawn():
    return scenes.draw_scenes(seed=3, scenes=range(120))


@pytest.fixture(scope="module")
def tuning():
    return brains.draw_tuning(np.random.default_rng(1), voxels=400, mean_ceiling=33)


def grating(cycles, angle, size=64):
    """A grey picture that varies along ``angle`` (radians), uint8 (1, size, size, 3)."""
    y, x = np.meshgrid(*[(np.arange(size) + 0.5) / size] * 2, indexing="ij")
    wave = np.sin(2 * np.pi * cycles * (np.cos(angle) * x + np.sin(angle) * y))
    return np.repeat(np.round(127.5 + 100 * wave)[None, ..., None], 3, axis=-1).astype(np.uint8)


def uniform(colour, size=64):
    return np.full((1, size, size, 3), colour, np.uint8)


@pytest.mark.parametrize("scale", range(len(brains.CYCLES)))
@pytest.mark.parametrize("orientation", range(brains.ORIENTATIONS))
def test_gratings_excite_their_own_filter_most(scale, orientation):
    angle = np.pi * orientation / brains.ORIENTATIONS
    energy = brains.gabor_energy(grating(brains.CYCLES[scale], angle))[0, :, 16:48, 16:48]
    assert energy.mean(axis=(1, 2)).argmax() == scale * brains.ORIENTATIONS + orientation


@pytest.mark.parametrize("level", [0, 90, 255])
def test_uniform_pictures_have_no_energy(level):
    assert brains.gabor_energy(uniform(level)).max() < 1e-4


@pytest.mark.parametrize(
    ("colour", "channels"),
    [
        ((255, 255, 255), {"light"}),
        ((0, 0, 0), {"dark"}),
        ((255, 0, 127), {"red"}),
        ((0, 255, 127), {"green"}),
        ((0, 0, 255), {"blue", "dark"}),
        ((200, 200, 0), {"yellow", "light"}),
    ],
)
def test_colours_excite_their_channels(colour, channels):
    values = brains.opponent_channels(uniform(colour))[0].mean(axis=(1, 2))
    excited = {
        name for name, value in zip(brains.OPPONENT_CHANNELS, values, strict=True) if value > 0.01
    }
    assert excited == channels


def test_receptive_fields_lie_where_they_should_and_grow(tuning):
    fields = brains.receptive_fields(tuning)
    np.testing.assert_allclose(fields.sum(axis=1), 1, rtol=1e-5)
    at = (np.arange(brains.GRID) + 0.5) / brains.GRID
    grids = fields.reshape(-1, brains.GRID, brains.GRID)
    x, y = grids.sum(axis=1) @ at, grids.sum(axis=2) @ at
    inside = (np.abs(tuning.centre - 0.5) < 0.2).all(axis=1) & (tuning.size < 0.12)
    np.testing.assert_allclose(x[inside], tuning.centre[inside, 0], atol=0.02)
    np.testing.assert_allclose(y[inside], tuning.centre[inside, 1], atol=0.02)
    sizes = [tuning.size[np.isin(tuning.label, area.labels)].mean() for area in AREAS]
    assert sizes == sorted(sizes)


AREAS = brains.AREAS.values()


def test_labels_follow_the_visual_field(tuning):
    upper = tuning.centre[:, 1] <= 0.5
    assert set(tuning.label[upper]) == {0, 1, 3, 5, 7}
    assert set(tuning.label[~upper]) == {0, 2, 4, 6, 7}


def test_early_voxels_answer_to_their_place_alone(tuning):
    """A change in the left half does not reach small receptive fields in the right half."""
    noise = np.random.default_rng(0).integers(256, size=(30, 64, 64, 3), dtype=np.uint8)
    changed = noise.copy()
    changed[:, :, :24] = np.roll(changed[:, :, :24], 1, axis=0)
    before, after = (raw_drive(tuning, images) for images in (noise, changed))
    far = (tuning.centre[:, 0] > 0.8) & (tuning.size < 0.08)
    near = (tuning.centre[:, 0] < 0.2) & (tuning.size < 0.08)
    moved = np.abs(after - before).max(axis=0) / before.std(axis=0)
    assert far.sum() > 5
    assert moved[far].max() < 0.2 < 1 < moved[near].min()


def raw_drive(tuning, images):
    """Responses before standardisation, with channels in fixed units."""
    maps = np.concatenate([brains.opponent_channels(images), brains.gabor_energy(images)], axis=1)
    cells = maps.reshape(len(images), brains.CHANNELS, brains.GRID, 2, brains.GRID, 2)
    channels = cells.mean(axis=(3, 5)).reshape(len(images), brains.CHANNELS, -1)
    return np.einsum("ncp,vp,vc->nv", channels, brains.receptive_fields(tuning),
                     tuning.channel_weight)  # fmt: skip


def test_picture_responses_equal_the_formula(tuning):
    images = np.random.default_rng(2).integers(256, size=(9, 64, 64, 3), dtype=np.uint8)
    channels = brains.picture_channels(images)
    fields = brains.receptive_fields(tuning).astype(float)
    drive = np.einsum("ncp,vp,vc->nv", channels.astype(float), fields, tuning.channel_weight)
    expected = drive**tuning.exponent
    expected = (expected - expected.mean(axis=0)) / expected.std(axis=0)
    np.testing.assert_allclose(brains.picture_responses(tuning, channels), expected, atol=2e-3)


def test_signal_has_variance_one_and_follows_the_scene(tuning, drawn):
    signal = brains.noise_free_signal(tuning, drawn)
    np.testing.assert_allclose(signal.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(signal.std(axis=0), 1, atol=1e-3)
    np.testing.assert_array_equal(signal, brains.noise_free_signal(tuning, drawn))
    shuffled = brains.noise_free_signal(tuning, drawn[::-1])
    np.testing.assert_allclose(shuffled[::-1], signal, atol=1e-3)


def test_higher_voxels_tell_categories_early_ones_do_not(tuning, drawn):
    """Share of each voxel's variance between kinds of single objects."""
    single = [scene for scene in drawn if len(scene.objects) == 1]
    kinds = np.array([scene.objects[0].kind for scene in single])
    signal = brains.noise_free_signal(tuning, single)
    means = np.stack([signal[kinds == kind].mean(axis=0) for kind in kinds])
    share = means.var(axis=0)
    assert share[tuning.label == 0].mean() > 1.5 * share[tuning.label == 1].mean()


@pytest.mark.parametrize("mean", [24, 33, 36])
def test_ceilings_are_spread_like_those_of_nsd(mean):
    ceilings = brains.draw_tuning(
        np.random.default_rng(4), voxels=3000, mean_ceiling=mean
    ).noise_ceiling
    assert ceilings.mean() == pytest.approx(mean, abs=1)
    assert np.percentile(ceilings, 2) < 5
    assert 60 < np.percentile(ceilings, 99) <= 80


def test_noise_deviation_gives_the_ceiling_of_three_trials():
    drawn = brains.draw_tuning(np.random.default_rng(5), voxels=50, mean_ceiling=33)
    expected = np.maximum(drawn.noise_ceiling, noise_ceiling(np.array(0.02)))
    variance = 1 / (1 + brains.noise_deviation(drawn) ** 2 / 3)
    np.testing.assert_allclose(100 * variance, expected, rtol=1e-5)


@pytest.mark.parametrize("shared", [0.0, 0.1, 0.5])
def test_noise_has_variance_one_and_the_wanted_shared_part(shared):
    rng = np.random.default_rng(6)
    positions = np.indices((6, 7, 5)).reshape(3, -1).T.astype(np.float32)
    patterns = brains.shared_patterns(rng, positions)
    noise = brains.draw_noise(rng, trials=20000, patterns=patterns, shared=shared)
    np.testing.assert_allclose(noise.var(axis=0), 1, atol=0.06)
    covariance = np.cov(noise[:, [0, 1, 209]].T)
    planned = shared * patterns[:, [0, 1, 209]].T @ patterns[:, [0, 1, 209]]
    np.testing.assert_allclose(covariance - np.diag(np.diag(covariance)),
                               planned - np.diag(np.diag(planned)), atol=0.03)  # fmt: skip
    assert planned[0, 1] >= planned[0, 2]
