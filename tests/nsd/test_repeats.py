"""Means over repeats against loops that collect the trials of each image in a list."""

import numpy as np
import pytest

from neuraldiffuser.nsd.repeats import MISSING_REPEATS, average_repeats, count_trials

IDS = np.array([7, 3, 7, 5, 3, 7])
REPEAT = np.array([2, 0, 0, 1, 1, 1])


@pytest.fixture
def rows():
    return np.random.default_rng(0).normal(size=(6, 4))


@pytest.mark.parametrize(
    ("missing_repeats", "expected"),
    [("skipped", [1, 1, 1, 1, 1, 1]), ("padded", [1, 2, 1, 3, 1, 1])],
)
def test_repeats_count_as_often_as_the_option_says(missing_repeats, expected):
    assert count_trials(IDS, REPEAT, missing_repeats=missing_repeats).tolist() == expected


def test_the_repeat_that_was_shown_first_is_counted_again_wherever_it_stands():
    order = np.array([4, 1, 3, 0, 2, 5])
    times = count_trials(IDS[order], REPEAT[order], missing_repeats="padded")
    assert times.tolist() == [1, 2, 3, 1, 1, 1]


@pytest.mark.parametrize("missing_repeats", MISSING_REPEATS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_means_equal_those_of_lists(rows, missing_repeats, dtype):
    times = count_trials(IDS, REPEAT, missing_repeats=missing_repeats)
    ids, means = average_repeats(rows.astype(dtype), IDS, times=times)
    assert ids.tolist() == [3, 5, 7]
    assert means.dtype == dtype
    for number, mean in zip(ids, means, strict=True):
        shown = [rows[trial] for trial in np.argsort(REPEAT) if IDS[trial] == number]
        if missing_repeats == "padded":  # as MindEye2 does: two become a, b, a; one a, a, a
            shown = (shown * 3)[:3]
        np.testing.assert_allclose(mean, sum(shown) / len(shown), rtol=1e-6, atol=1e-6)


def test_values_that_are_missing_do_not_count(rows):
    present = np.ones((6, 4), bool)
    present[0, 1] = present[2, 1] = False  # image 7 keeps one value in column 1
    present[3, 2] = False  # image 5 keeps none in column 2
    rows[~present] = 1e6
    _, means = average_repeats(rows, IDS, present=present)
    assert means[2, 1] == pytest.approx(rows[5, 1])
    assert means[1, 2] == 0
    assert means[2, 0] == pytest.approx((rows[0, 0] + rows[2, 0] + rows[5, 0]) / 3)


def test_a_padded_image_pads_only_with_trials_that_have_a_value(rows):
    present = np.ones((6, 4), bool)
    present[1, 0] = False  # the first repeat of image 3, which counts twice
    times = count_trials(IDS, REPEAT, missing_repeats="padded")
    _, means = average_repeats(rows, IDS, times=times, present=present)
    assert means[0, 0] == pytest.approx(rows[4, 0])
    assert means[0, 1] == pytest.approx((2 * rows[1, 1] + rows[4, 1]) / 3)
