"""Noise belongs to a sample, not to the batch it is drawn with."""

import numpy as np
import scipy.stats

from neuraldiffuser.diffusion.noise import draw_noise

SHAPE = (4, 8, 8)


def test_noise_does_not_depend_on_order_or_company():
    together = draw_noise([(5, 0), (9, 1), (5, 1)], seed=42, shape=SHAPE)
    alone = [draw_noise([sample], seed=42, shape=SHAPE)[0] for sample in [(5, 1), (5, 0), (9, 1)]]
    assert np.array_equal(together[[2, 0, 1]], np.stack(alone))


def test_seed_id_and_repeat_each_give_other_noise():
    samples = [(5, 0), (5, 1), (6, 0)]
    drawn = [*draw_noise(samples, seed=1, shape=SHAPE), *draw_noise(samples, seed=2, shape=SHAPE)]
    correlations = np.corrcoef(np.stack(drawn).reshape(6, -1))
    assert np.abs(correlations - np.eye(6)).max() < 0.25


def test_noise_is_standard_normal_float32():
    noise = draw_noise([(identity, 0) for identity in range(200)], seed=0, shape=SHAPE)
    assert noise.dtype == np.float32
    assert scipy.stats.kstest(noise.ravel(), "norm").pvalue > 0.01
