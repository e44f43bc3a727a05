import numpy as np
import pytest

from neuraldiffuser.nsd.noise_ceiling import (
    estimate_ncsnr,
    explainable_share,
    noise_ceiling,
    ratio_of,
)


@pytest.mark.parametrize(("trials", "expected"), [(1, 20.0), (3, 300 / 7), (10, 1000 / 14)])
def test_formula_by_hand(trials, expected):
    assert noise_ceiling(np.array([0.5]), trials=trials)[0] == pytest.approx(expected)


def test_ratio_inverts_the_ceiling():
    ceilings = np.array([0.0, 12.5, 33.0, 79.0])
    np.testing.assert_allclose(noise_ceiling(ratio_of(ceilings)), ceilings, atol=1e-12)


def test_planted_ratios_are_estimated():
    rng = np.random.default_rng(0)
    ratios = np.array([0.0, 0.3, 0.8, 2.0])
    ids = rng.permutation(np.tile(np.arange(3000), 3))
    signal = rng.normal(size=(3000, 4)) * ratios
    found = estimate_ncsnr(signal[ids] + rng.normal(size=(9000, 4)), ids)
    np.testing.assert_allclose(found, ratios, atol=0.08)
    shuffled = estimate_ncsnr(signal[ids] + rng.normal(size=(9000, 4)), rng.permutation(ids))
    assert shuffled.max() < 0.2


def test_constant_voxels_have_ratio_zero():
    assert estimate_ncsnr(np.zeros((6, 2)), np.array([0, 0, 1, 1, 2, 2])).tolist() == [0, 0]


def test_estimate_equals_the_published_procedure_in_a_loop():
    rng = np.random.default_rng(4)
    ids, betas = np.repeat([5, 2, 9], 3), rng.normal(size=(9, 1))
    within = [np.var([b for b, i in zip(betas[:, 0], ids, strict=True) if i == n], ddof=1)
              for n in (5, 2, 9)]  # fmt: skip
    noise = sum(within) / 3
    signal = max(np.var(betas[:, 0], ddof=1) - noise, 0)
    assert estimate_ncsnr(betas, ids)[0] == pytest.approx((signal / noise) ** 0.5)


def test_the_share_for_mixed_trials_is_that_of_simulated_means():
    """Means over one to three trials, whose signal is known: r^2 with it is the share."""
    rng = np.random.default_rng(1)
    trials = np.resize([3, 3, 2, 1], 40_000)
    ratios = np.array([0.3, 0.8, 2.0])
    signal = rng.normal(size=(len(trials), 3)) * ratios
    means = signal + rng.normal(size=signal.shape) / np.sqrt(trials)[:, None]
    expected = [np.corrcoef(signal[:, v], means[:, v])[0, 1] ** 2 for v in range(3)]
    found = explainable_share(noise_ceiling(ratios), trials=trials)
    np.testing.assert_allclose(found, expected, atol=0.01)


@pytest.mark.parametrize("trials", [1, 2, 3])
def test_with_equal_trials_the_share_is_the_ceiling(trials):
    ratios = np.array([0.0, 0.3, 2.0])
    found = explainable_share(noise_ceiling(ratios), trials=np.full(5, trials))
    np.testing.assert_allclose(100 * found, noise_ceiling(ratios, trials=trials))
    assert explainable_share(np.array([100.0]), trials=np.array([1, 3])) == 1
