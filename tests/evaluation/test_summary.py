"""Means and paired differences over images."""

import numpy as np
import pandas as pd
import pytest

from neuraldiffuser.config.evaluation import (
    NSD_JUDGES,
    BootstrapSettings,
    ComparisonSettings,
    Conventions,
)
from neuraldiffuser.errors import DataError
from neuraldiffuser.evaluation.metrics import choose_names, metrics_of
from neuraldiffuser.evaluation.summary import (
    average_subjects,
    choose_conventions,
    compare,
    summarise,
    summarise_sets,
)

METRICS = metrics_of(NSD_JUDGES)
BOOTSTRAP = BootstrapSettings(draws=500)
PAIR = {"guided_minus_unguided": ComparisonSettings(first="guided", second="unguided")}


def table(pixcorr, ids=None, **others):
    index = pd.Index(range(len(pixcorr)) if ids is None else ids, name="id")
    return pd.DataFrame({"pixcorr": pixcorr, **others}, index=index)


@pytest.fixture
def values():
    """Two subjects whose images come in different orders; guided gains 0.1 on every image."""
    base = np.random.default_rng(0).uniform(size=30)
    shuffled = np.random.default_rng(1).permutation(30)
    return {
        ("unguided", "subj01"): table(base),
        ("unguided", "subj02"): table(base[shuffled] + 0.3, ids=shuffled),
        ("guided", "subj01"): table(base + 0.1),
        ("guided", "subj02"): table(base[shuffled] + 0.4, ids=shuffled),
    }


def test_subjects_are_averaged_image_by_image(values):
    found = average_subjects(values)
    base = values["unguided", "subj01"]["pixcorr"]
    np.testing.assert_allclose(found["unguided"]["pixcorr"], base + 0.15)
    assert list(found) == ["unguided", "guided"]


def test_only_images_of_all_subjects_enter_their_mean():
    found = average_subjects(
        {("a", "subj01"): table([1.0, 2.0], [1, 2]), ("a", "subj02"): table([4.0, 6.0], [2, 3])}
    )
    assert found["a"]["pixcorr"].to_dict() == {2: 3.0}


def test_subjects_without_a_common_image_are_refused():
    apart = {("a", "subj01"): table([1.0], [1]), ("a", "subj02"): table([1.0], [2])}
    with pytest.raises(DataError, match="^the subjects share no test image"):
        average_subjects(apart)


def test_summary_has_every_subject_and_all_of_them(values):
    found = summarise(values, metrics=METRICS, bootstrap=BOOTSTRAP).set_index(
        ["variant", "subject", "metric"]
    )
    row = found.loc["guided", "subj02", "pixcorr"]
    assert row["mean"] == pytest.approx(values["guided", "subj02"]["pixcorr"].mean())
    assert row["low"] < row["mean"] < row["high"]
    assert (row["n"], row["unit"], row["direction"]) == (30, "correlation", "higher")
    means = [found.loc["guided", subject, "pixcorr"]["mean"] for subject in ("subj01", "subj02")]
    assert found.loc["guided", "all", "pixcorr"]["mean"] == pytest.approx(np.mean(means))


def test_differences_are_paired_by_image(values):
    found = compare(values, comparisons=PAIR, metrics=METRICS, bootstrap=BOOTSTRAP).iloc[0]
    # Every image gains the same, so the paired interval has no width, however images differ.
    assert found[["difference", "low", "high"]].tolist() == pytest.approx([0.1, 0.1, 0.1])
    assert (found["variant_a"], found["variant_b"], found["n"]) == ("guided", "unguided", 30)
    assert found["p_value"] < 0.01


def test_exchanged_variants_change_the_sign(values):
    exchanged = {"back": ComparisonSettings(first="unguided", second="guided")}
    found = compare(values, comparisons=exchanged, metrics=METRICS, bootstrap=BOOTSTRAP)
    assert found["difference"][0] == pytest.approx(-0.1)


def test_a_comparison_of_variants_that_did_not_run_is_absent(values):
    absent = {"other": ComparisonSettings(first="guided", second="mean_feature")}
    assert compare(values, comparisons=absent, metrics=METRICS, bootstrap=BOOTSTRAP).empty


def test_variants_on_different_images_are_refused_by_id(values):
    changed = {
        key: frame.drop(index=4) if key[0] == "guided" else frame for key, frame in values.items()
    }
    with pytest.raises(DataError) as error:
        compare(changed, comparisons=PAIR, metrics=METRICS, bootstrap=BOOTSTRAP)
    assert str(error.value) == (
        "guided and unguided were measured on different images (4 only in one); "
        "run both on the same test images."
    )


def test_the_switch_chooses_which_brain_correlation_tables_show():
    frame = table(
        [0.0, 0.0],
        brain_correlation_V1_voxels_per_image=[0.1, 0.2],
        brain_correlation_V1_images_per_voxel=[0.3, 0.4],
    )
    shown = {
        direction: choose_conventions(
            frame, choose_names((), Conventions(brain_correlation=direction))
        )["brain_correlation_V1"].tolist()
        for direction in ("voxels_per_image", "images_per_voxel")
    }
    assert shown == {"voxels_per_image": [0.1, 0.2], "images_per_voxel": [0.3, 0.4]}


def test_sets_keep_their_value_or_the_reason_why_there_is_none():
    row = {"metric": "fid", "n": 40}
    sets = {
        ("guided", "subj01"): pd.DataFrame([row | {"value": 10.0, "note": "biased"}]),
        ("guided", "subj02"): pd.DataFrame([row | {"value": 20.0, "note": "biased"}]),
        ("unguided", "subj01"): pd.DataFrame([row | {"value": 10.0, "note": "biased"}]),
        ("unguided", "subj02"): pd.DataFrame([row | {"value": np.nan, "note": "too few"}]),
    }
    found = summarise_sets(sets, metrics=METRICS).set_index(["variant", "subject"])
    assert found.loc[("guided", "all"), "mean"] == 15
    assert found.loc[("guided", "all"), "direction"] == "lower"
    assert np.isnan(found.loc[("unguided", "all"), "mean"])
    assert found.loc[("unguided", "subj02"), "note"] == "too few"


def test_no_sets_make_an_empty_table():
    empty = pd.DataFrame(columns=["metric", "value", "n", "note"])
    assert summarise_sets({("guided", "subj01"): empty}, metrics=METRICS).empty
