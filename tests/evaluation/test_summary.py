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
    adjust_families,
    aggregate,
    choose_conventions,
    compare,
    join_sets,
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


def test_summary_has_every_subject_and_all_of_them(values):
    found = summarise(values, metrics=METRICS, bootstrap=BOOTSTRAP).set_index(
        ["variant", "subject", "metric"]
    )
    row = found.loc["guided", "subj02", "pixcorr"]
    assert row["mean"] == pytest.approx(values["guided", "subj02"]["pixcorr"].mean())
    assert row["low"] < row["mean"] < row["high"]
    assert (row["n"], row["unit"], row["direction"]) == (30, "correlation", "higher")
    assert (row["subjects"], found.loc["guided", "all", "pixcorr"]["subjects"]) == (1, 2)
    means = [found.loc["guided", subject, "pixcorr"]["mean"] for subject in ("subj01", "subj02")]
    assert found.loc["guided", "all", "pixcorr"]["mean"] == pytest.approx(np.mean(means))


def test_an_area_that_a_subject_lacks_is_averaged_over_the_others_and_says_so():
    V1, hV4 = "brain_correlation_V1", "brain_correlation_hV4"
    values = {
        ("guided", "subj01"): table([0.1, 0.3], **{V1: [0.2, 0.4], hV4: [0.5, 0.7]}),
        ("guided", "subj02"): table([0.1, 0.3], **{V1: [0.4, 0.6]}),
        ("truth", "stimulus"): table([0.9, 0.9]),
        ("truth", "subj01"): table([0.1, 0.3], **{V1: [0.2, 0.4]}).drop(columns="pixcorr"),
        ("truth", "subj02"): table([0.1, 0.3], **{V1: [0.2, 0.4]}).drop(columns="pixcorr"),
    }
    found = summarise(values, metrics=METRICS, bootstrap=BOOTSTRAP)
    pooled = found[found["subject"] == "all"].set_index(["variant", "metric"])
    rows = pooled[["mean", "subjects", "note"]].agg(list, axis=1).to_dict()
    approximately = {key: [pytest.approx(mean), *rest] for key, (mean, *rest) in rows.items()}
    assert approximately == {
        ("guided", "pixcorr"): [0.2, 2, ""],
        ("guided", V1): [0.4, 2, ""],
        ("guided", hV4): [0.6, 1, "of 1 of 2 subjects: not measured for subj02"],
        ("truth", "pixcorr"): [0.9, 1, ""],
        ("truth", V1): [0.3, 2, ""],
    }


def test_images_that_a_subject_lacks_are_counted():
    values = {
        ("a", "subj01"): table([1.0, 2.0], [1, 2]),
        ("a", "subj02"): table([4.0, 6.0], [2, 3]),
    }
    found = summarise(values, metrics=METRICS, bootstrap=BOOTSTRAP).set_index("subject")
    assert found.loc["all", ["mean", "n", "note"]].tolist() == [
        3.0,
        1,
        "1 of 3 images: those of all subjects",
    ]


def test_both_ways_to_average_stand_beside_each_other():
    """Unequal images: the means over images and over subjects differ."""
    values = {
        ("a", "subj01"): table([1.0, 2.0, 6.0], [1, 2, 3]),
        ("a", "subj02"): table([4.0, 8.0], [2, 3]),
    }
    summary = summarise(values, metrics=METRICS, bootstrap=BOOTSTRAP)
    better = {key: frame + 1 for key, frame in values.items()}
    best = summarise(better, metrics=METRICS, bootstrap=BOOTSTRAP)
    [row] = aggregate(summary, best=best, repeats={"a": 5}).to_dict("records")
    assert row["best"] == row["images"] + 1
    assert row["best_low"] == pytest.approx(row["low"] + 1)
    assert row["images"] == np.mean([(2 + 4) / 2, (6 + 8) / 2])
    assert row["paper"] == np.mean([(1 + 2 + 6) / 3, (4 + 8) / 2])
    assert row["spread"] == np.std([3, 6], ddof=1)
    assert (row["n"], row["subjects"], row["repeats"]) == (2, 2, 5)
    assert row["low"] <= row["images"] <= row["high"]


def test_of_equal_images_both_ways_give_the_same_number(values):
    summary = summarise(values, metrics=METRICS, bootstrap=BOOTSTRAP)
    found = aggregate(summary, best=summary[:0], repeats={"guided": 1})
    np.testing.assert_allclose(found["images"], found["paper"], rtol=1e-12)


def test_one_subject_has_no_spread_and_one_repeat_is_not_the_best():
    summary = summarise({("a", "subj01"): table([1.0, 2.0])}, metrics=METRICS, bootstrap=BOOTSTRAP)
    found = aggregate(summary, best=summary[:0], repeats={"a": 1})
    assert found["paper"].tolist() == [1.5]
    assert found[["spread", "best", "best_low"]].isna().all(axis=None)


def test_p_is_adjusted_over_the_metrics_that_tables_show():
    names = ["pixcorr", "ssim", "ssim_2d", "consistency"]
    differences = pd.DataFrame(
        {"name": "pair", "metric": names, "p_value": [0.01, 0.04, 0.04, 0.03]}
    )
    other = pd.DataFrame({"name": "other", "metric": ["pixcorr"], "p_value": [0.02]})
    both = pd.concat([differences, other], ignore_index=True)
    found = adjust_families(both, metrics=METRICS)["p_holm"]
    np.testing.assert_allclose(found, [0.03, 0.06, np.nan, 0.06, 0.02])
    assert adjust_families(both[:0], metrics=METRICS)["p_holm"].empty


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


def test_variants_of_different_subjects_are_refused_by_name(values):
    changed = {key: frame for key, frame in values.items() if key != ("guided", "subj02")}
    with pytest.raises(DataError) as error:
        compare(changed, comparisons=PAIR, metrics=METRICS, bootstrap=BOOTSTRAP)
    assert str(error.value) == (
        "pixcorr of guided and unguided was measured for different subjects (subj02 only in one); "
        "evaluate both for the same subjects."
    )


def test_ground_truth_of_no_subject_is_compared_with_all_of_them(values):
    truth = {("guided", "stimulus"): table(np.ones(30))}
    unguided = {key: frame for key, frame in values.items() if key[0] == "unguided"}
    found = compare(truth | unguided, comparisons=PAIR, metrics=METRICS, bootstrap=BOOTSTRAP)
    base = values["unguided", "subj01"]["pixcorr"]
    assert found["difference"].tolist() == pytest.approx([1 - base.mean() - 0.15])


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
    assert found.loc[("unguided", "all"), "note"] == "too few"
    assert found.loc[("unguided", "all"), "subjects"] == 2


def test_a_judge_that_skips_one_subject_has_one_row_of_all_with_the_reason(values):
    """subj02 has too few images for the judge, and no other judge of a network."""
    values[("guided", "subj01")]["effnet"] = 0.5
    single = summarise(values, metrics=METRICS, bootstrap=BOOTSTRAP)
    short = pd.DataFrame([{"metric": "effnet", "value": np.nan, "n": 30, "note": "too few"}])
    sets = summarise_sets(
        {("guided", "subj02"): short, ("unguided", "subj01"): short}, metrics=METRICS
    )
    found = join_sets(single, sets).set_index(["variant", "subject", "metric"])
    assert found.index.is_unique
    assert found.loc[("guided", "all", "effnet"), "mean"] == 0.5
    assert found.loc[("guided", "all", "effnet"), "note"] == "without subj02: too few"
    assert found.loc[("guided", "subj01", "effnet"), "note"] == ""
    assert np.isnan(found.loc[("guided", "subj02", "effnet"), "mean"])
    assert found.loc[("unguided", "all", "effnet"), "note"] == "too few"


def test_no_sets_make_an_empty_table():
    empty = pd.DataFrame(columns=["metric", "value", "n", "note"])
    assert summarise_sets({("guided", "subj01"): empty}, metrics=METRICS).empty
