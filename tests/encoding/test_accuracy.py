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
