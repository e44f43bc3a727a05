import pytest

from neuraldiffuser import words


@pytest.mark.parametrize(
    ("value", "unit", "signed", "text"),
    [
        (0.31849, "correlation", False, "0.318"),
        (-0.0312, "correlation", True, "−0.031"),
        (0.0312, "correlation", True, "+0.031"),
        (0.9533, "share identified", False, "95.3 %"),
        (0.0296, "share identified", True, "+3.0 points"),
        (-0.0002, "share identified", True, "0.0 points"),
        (-0.0002, "correlation", True, "0.000"),
        (31.54, "times chance", False, "31.5"),
        (1234.5, "squared distance", False, "1234"),
    ],
)
def test_numbers_are_written_by_unit(value, unit, signed, text):
    assert words.write_number(value, unit=unit, signed=signed) == text


def test_an_estimate_carries_its_interval_and_one_unit():
    written = words.write_estimate(-0.0312, -0.0711, 0.0102, unit="share identified", signed=True)
    assert written == "−3.1 [−7.1, +1.0] points", "percent would be relative"


def test_small_probabilities_are_bounded():
    assert [words.write_p(p) for p in (0.00015, 0.0015, 0.2699)] == [
        "p < 0.001",
        "p = 0.0015",
        "p = 0.27",
    ]


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.9533, "share identified", "95.33"),
        (0.318, "index", "0.318"),
        (5.7, "squared distance", "5.70"),
    ],
)
def test_published_numbers_keep_the_digits_of_papers(value, unit, text):
    assert words.write_published(value, unit=unit) == text


def test_counts_agree_with_their_noun():
    assert words.write_count(1, "image") == "1 image"
    assert words.write_count(27750, "trial") == "27\u202f750 trials"


@pytest.mark.parametrize(
    ("items", "text"),
    [([], ""), (["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c")],
)
def test_lists_read_as_in_a_sentence(items, text):
    assert words.join_words(items) == text
