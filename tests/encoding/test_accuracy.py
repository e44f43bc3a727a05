import numpy as np
import pytest
import scipy.stats

from neuraldiffuser.encoding import accuracy
from neuraldiffuser.errors import DataError


def test_correlation_is_scipys():
    rng = np.random.default_rng(0)
    measured = rng.standard_normal((20, 7)).astype(np.float32)
    predicted = (measured * rng.random(7) + rng.standard_normal((20, 7))).astype(np.float32)
    expected = [scipy.stats.pearsonr(predicted[:, v], measured[:, v])[0] for v in range(7)]
    np.testing.assert_allclose(accuracy.correlate_voxels(predicted, measured), expected, atol=1e-6)


def test_constant_voxels_follow_nothing():
    rng = np.random.default_rng(0)
    measured, predicted = rng.standard_normal((2, 10, 2))
    measured[:, 1] = 0
    correlation = accuracy.correlate_voxels(predicted, measured)
    assert correlation[1] == 0 and correlation[0] != 0


@pytest.mark.parametrize("shape", [(10, 3), (9, 2)])
def test_unequal_shapes_and_too_few_images_are_refused(shape):
    with pytest.raises(DataError, match="expected equal shapes with three images or more"):
        accuracy.correlate_voxels(np.zeros((10, 2)), np.zeros(shape))
    with pytest.raises(DataError, match="expected equal shapes"):
        accuracy.correlate_voxels(np.zeros((2, 2)), np.zeros((2, 2)))


def test_ceiling_is_what_a_perfect_model_reaches():
    rng = np.random.default_rng(0)
    signal = rng.standard_normal((20_000, 2))
    measured = signal + rng.standard_normal(signal.shape) * np.sqrt([1, 3])
    reached = accuracy.correlate_voxels(signal, measured)
    np.testing.assert_allclose(reached, accuracy.ceiling_correlation(np.array([50, 25])), atol=0.02)


def test_summary_counts_reliable_voxels_of_each_region():
    correlation = np.array([0.5, 0.1, 0.3, 0.2])
    ceiling = np.array([36.0, 5.0, 49.0, 25.0])
    regions = {
        "V1": np.array([True, True, True, False]),
        "unreliable": np.array([False, True, False, False]),
        "higher": np.array([False, False, False, True]),
    }
    table = accuracy.summarise_accuracy(correlation, noise_ceiling=ceiling, regions=regions)
    assert table["region"].tolist() == ["V1", "higher"]
    assert table["voxels"].tolist() == [2, 1]
    np.testing.assert_allclose(table["correlation"], [0.4, 0.2])
    np.testing.assert_allclose(table["ceiling"], [0.65, 0.5])
    np.testing.assert_allclose(table["fraction"], [0.4 / 0.65, 0.4])
