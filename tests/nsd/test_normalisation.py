"""Every convention against loops in float64."""

import numpy as np
import pytest

from neuraldiffuser.errors import DataError
from neuraldiffuser.nsd.normalisation import NORMALISATIONS, measure, normalise

SESSIONS = 3


def expected_statistics(name, betas, rows, session, voxel):
    """Mean and deviation of one session and voxel, written out."""
    trials = list(zip(betas[:, voxel].astype(float), rows.itertuples(index=False), strict=True))
    if name == "session_all":
        values = [value for value, row in trials if row.session == session]
    elif name == "session_training":
        values = [v for v, row in trials if row.session == session and not row.shared]
    elif name == "global_training":
        lost = {2: {2}, 4: {1, 2, 3}}.get(voxel, set())
        values = [v for v, row in trials if not row.shared and row.session not in lost]
    else:
        by_image = {}
        for value, row in trials:
            if not row.shared:
                by_image.setdefault(row.id, []).append(value)
        values = [sum(repeats) / len(repeats) for repeats in by_image.values()]
    count = max(len(values), 1)
    mean = sum(values) / count
    freedom = count - 1 if name == "averaged_training" else count
    return mean, (sum((value - mean) ** 2 for value in values) / freedom) ** 0.5


@pytest.mark.parametrize("name", NORMALISATIONS)
def test_statistics_and_betas_equal_a_loop(betas, rows, name):
    statistics = measure(betas, rows, normalisation=name)
    normalised = normalise(betas, rows, statistics)
    for session in range(1, SESSIONS + 1):
        here = (rows["session"] == session).to_numpy()
        for voxel in (0, 1, 2, 3):
            mean, deviation = expected_statistics(name, betas, rows, session, voxel)
            np.testing.assert_allclose(statistics.mean[session - 1, voxel], mean, rtol=1e-5)
            np.testing.assert_allclose(statistics.std[session - 1, voxel], deviation, rtol=1e-4)
            if (session, voxel) != (2, 2):
                expected = (betas[here, voxel].astype(float) - mean) / deviation
                np.testing.assert_allclose(normalised[here, voxel], expected, atol=1e-4)


def test_no_two_normalisations_agree(betas, rows):
    outputs = [
        normalise(betas, rows, measure(betas, rows, normalisation=name)) for name in NORMALISATIONS
    ]
    for number, first in enumerate(outputs):
        assert all(np.abs(first - other).max() > 1e-3 for other in outputs[:number])


@pytest.mark.parametrize("name", ["session_training", "global_training", "averaged_training"])
def test_test_trials_do_not_touch_the_statistics(betas, rows, name):
    changed = betas + 5 * rows[["shared"]].to_numpy() * (betas != 0)
    before = measure(betas, rows, normalisation=name)
    after = measure(changed.astype(np.float32), rows, normalisation=name)
    np.testing.assert_array_equal(before.mean, after.mean)
    np.testing.assert_array_equal(before.std, after.std)


def test_a_session_without_training_trials_is_refused(betas, rows):
    shared = rows.assign(shared=rows["shared"] | (rows["session"] == 3))
    with pytest.raises(DataError) as error:
        measure(betas, shared, normalisation="session_training")
    assert str(error.value) == ("Session 3 has no training trial to normalise with; leave it out.")
