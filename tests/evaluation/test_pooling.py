"""Means over subjects, image by image."""

import numpy as np
import pandas as pd
import pytest

from neuraldiffuser.errors import DataError
from neuraldiffuser.evaluation.pooling import pool_subjects


def table(ids, **values):
    return pd.DataFrame(values, index=pd.Index(ids, name="id"))


def test_subjects_are_averaged_image_by_image_whatever_their_order():
    base, order = np.random.default_rng(0).permutation(30), np.random.default_rng(1).permutation(30)
    values = {
        ("unguided", "subj01"): table(range(30), pixcorr=base),
        ("unguided", "subj02"): table(order, pixcorr=base[order] + 3),
        ("guided", "subj01"): table(range(30), pixcorr=base + 1),
    }
    found = pool_subjects(values)
    assert list(found) == ["unguided", "guided"]
    [pool] = found["unguided"]
    np.testing.assert_allclose(pool.table["pixcorr"], base + 1.5)
    assert (pool.subjects, pool.all_images) == (("subj01", "subj02"), 30)


def test_only_images_of_all_subjects_enter_their_mean():
    [pool] = pool_subjects(
        {("a", "subj01"): table([1, 2], x=[1.0, 2.0]), ("a", "subj02"): table([2, 3], x=[4.0, 6.0])}
    )["a"]
    assert pool.table["x"].to_dict() == {2: 3.0}
    assert pool.all_images == 3


def test_a_metric_is_averaged_over_the_subjects_and_images_that_have_it():
    values = {
        ("a", "subj01"): table([1, 2], x=[1.0, 2.0], y=[5.0, 7.0]),
        ("a", "subj02"): table([2, 3], x=[4.0, 6.0]),
    }
    found = {pool.subjects: pool.table for pool in pool_subjects(values)["a"]}
    assert found["subj01", "subj02"].to_dict() == {"x": {2: 3.0}}
    assert found["subj01",].to_dict() == {"y": {1: 5.0, 2: 7.0}}


def test_subjects_without_a_common_image_are_refused():
    apart = {("a", "subj01"): table([1], x=[1.0]), ("a", "subj02"): table([2], x=[1.0])}
    with pytest.raises(DataError, match="^the subjects share no test image"):
        pool_subjects(apart)
