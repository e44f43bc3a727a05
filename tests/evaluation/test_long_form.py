"""Values per image and repeat, there and back, joined by id."""

import numpy as np
import pandas as pd
import pytest

from neuraldiffuser.config.evaluation import NSD_JUDGES
from neuraldiffuser.errors import DataError
from neuraldiffuser.evaluation.long_form import (
    average_per_image,
    best_per_image,
    count_repeats,
    to_long_form,
)
from neuraldiffuser.evaluation.metrics import brain_metric, metrics_of

IDS = np.array([7, 3])


def test_every_value_keeps_its_image_and_repeat():
    table = to_long_form(IDS, {"a": np.array([[1.0, 2.0], [3.0, 4.0]]), "b": np.array([5.0, 6.0])})
    rows = set(table.itertuples(index=False, name=None))
    assert rows == {
        (7, 0, "a", 1.0),
        (7, 1, "a", 2.0),
        (3, 0, "a", 3.0),
        (3, 1, "a", 4.0),
        (7, -1, "b", 5.0),
        (3, -1, "b", 6.0),
    }


def test_repeats_are_averaged_and_tables_joined_by_id():
    first = to_long_form(IDS, {"a": np.array([[1.0, 2.0], [3.0, 5.0]])})
    second = to_long_form(IDS[::-1], {"b": np.array([6.0, 8.0])})
    found = average_per_image([first, second.sample(frac=1, random_state=0)])
    assert found.index.tolist() == [3, 7]
    assert found["a"].tolist() == [4.0, 1.5]
    assert found["b"].tolist() == [6.0, 8.0]


def test_a_value_that_is_not_finite_is_refused_by_id():
    with pytest.raises(DataError) as error:
        to_long_form(IDS, {"ssim": np.array([[1.0, 2.0], [np.nan, 1.0]])})
    assert str(error.value) == (
        "ssim is not finite for the images 3; "
        "look at their reconstructions and run the variant again."
    )


def test_images_that_lack_a_metric_are_refused_by_id():
    first = to_long_form(IDS, {"a": np.array([1.0, 2.0])})
    second = to_long_form(IDS[:1], {"b": np.array([1.0])})
    with pytest.raises(DataError, match="^the images 3 lack values of some metric; "):
        average_per_image([first, second])


def test_repeats_are_counted_by_variant():
    many = to_long_form(IDS, {"a": np.zeros((2, 3)), "b": np.zeros(2)})
    once = to_long_form(IDS, {"b": np.zeros(2)})
    runs = {("guided", "subj01"): [many, once], ("stimulus", "subj01"): [once]}
    assert count_repeats(runs) == {"guided": 3, "stimulus": 1}


def test_the_best_repeat_is_chosen_by_each_metric_for_itself():
    repeats = np.array([[1.0, 2.0, 0.0], [3.0, 5.0, 4.0]])
    values = {"pixcorr": repeats, "effnet": repeats, "consistency": np.array([7.0, 8.0])}
    of_sets = {"kid": repeats, brain_metric("V1", "images_per_voxel"): repeats}
    found = best_per_image([to_long_form(IDS, values | of_sets)], metrics=metrics_of(NSD_JUDGES))
    assert found.to_dict() == {"pixcorr": {3: 5.0, 7: 2.0}, "effnet": {3: 3.0, 7: 0.0}}


def test_a_value_that_stands_twice_is_refused_by_id():
    table = to_long_form(IDS, {"a": np.array([[1.0, 2.0], [3.0, 5.0]])})
    again = to_long_form(IDS[1:], {"a": np.array([[3.0, 5.0]])})
    with pytest.raises(DataError) as error:
        average_per_image([table, again])
    assert str(error.value) == (
        "a stands twice for the images 3; delete these evaluations and run them again."
    )


@pytest.mark.parametrize("fewer", [{"a": 1, "b": 2}, {"a": 1, "b": 1}], ids=["metric", "image"])
def test_unequal_repeats_are_refused_by_id(fewer):
    tables = [
        part
        for name, repeats in fewer.items()
        for part in (
            to_long_form(IDS[:1], {name: np.array([[1.0, 2.0]])}),
            to_long_form(IDS[1:], {name: np.array([[3.0, 5.0]])[:, :repeats]}),
        )
    ]
    together = to_long_form(IDS, {"c": np.array([1.0, 2.0])})
    with pytest.raises(DataError) as error:
        average_per_image([*tables, together])
    assert str(error.value) == (
        "the images 3 lack repeats that other images or metrics have; "
        "delete these evaluations and run them again."
    )


def test_writing_and_reading_keeps_every_digit(tmp_path):
    value = np.array([1 / 3, np.pi])
    to_long_form(IDS, {"a": value}).to_csv(tmp_path / "a.csv", index=False)
    assert pd.read_csv(tmp_path / "a.csv")["value"].tolist() == value.tolist()
