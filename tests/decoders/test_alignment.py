"""Equations 6 and 7, and whose statistics each reading uses."""

import numpy as np
import pytest

from neuraldiffuser.decoders.alignment import ALIGNMENTS, align_all

GENERATOR = np.random.default_rng(0)
PREDICTIONS = {
    "test": GENERATOR.normal(2, 0.3, (40, 3, 2)),
    "validation": GENERATOR.normal(1, 0.5, (25, 3, 2)),
}
TARGETS = GENERATOR.normal(-1, 2, (60, 3, 2))


@pytest.mark.parametrize(
    ("alignment", "source"),
    [("test_predictions", "test"), ("validation_predictions", "validation")],
)
def test_equations_6_and_7_in_a_plain_loop(alignment, source):
    aligned = align_all(PREDICTIONS, TARGETS, alignment=alignment)
    for group, rows in PREDICTIONS.items():
        assert aligned[group].dtype == np.float32
        for index in np.ndindex(rows.shape):
            column = PREDICTIONS[source][(slice(None), *index[1:])]
            target = TARGETS[(slice(None), *index[1:])]
            standardised = (rows[index] - np.mean(column)) / np.std(column)
            expected = np.std(target) * standardised + np.mean(target)
            assert aligned[group][index] == pytest.approx(expected, rel=1e-5)


def test_aligned_predictions_have_the_statistics_of_the_targets():
    aligned = align_all(PREDICTIONS, TARGETS, alignment="test_predictions")["test"]
    np.testing.assert_allclose(aligned.mean(axis=0), TARGETS.mean(axis=0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(aligned.std(axis=0), TARGETS.std(axis=0), rtol=1e-4)


def test_none_changes_nothing():
    unchanged = align_all(PREDICTIONS, TARGETS, alignment="none")
    np.testing.assert_array_equal(unchanged["test"], PREDICTIONS["test"])


def test_readings_differ():
    results = [align_all(PREDICTIONS, TARGETS, alignment=name)["test"] for name in ALIGNMENTS]
    assert not np.allclose(results[0], results[1]) and not np.allclose(results[1], results[2])


def test_a_constant_dimension_stays_finite():
    constant = {"test": np.ones((5, 2)), "validation": np.ones((4, 2))}
    aligned = align_all(constant, np.ones((6, 2)), alignment="test_predictions")
    np.testing.assert_array_equal(aligned["test"], np.ones((5, 2)))
