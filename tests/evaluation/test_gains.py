"""Gains beside their controls: which belong together, and paired differences."""

import numpy as np
import pandas as pd
import pytest

from neuraldiffuser.config.evaluation import BootstrapSettings
from neuraldiffuser.config.reconstruction import Reconstruction
from neuraldiffuser.evaluation import gains
from neuraldiffuser.evaluation.metrics import METRICS

FURTHER = {
    "color_of_another": {"guidance": "color", "scale": "color", "features": "another_image"},
    "sum_by_mean": {
        "guidance": {"color": {"scale": "clip_and_color"}, "clip_layers": {"scale": "guided"}},
        "features": "mean",
    },
    "strong_by_mean": {"scale": "guided", "strength": 1.0, "features": "mean"},
    "spelt_out": {"guidance": "encoder", "scale": 800, "strength": 1.0, "features": "mean"},
    "own_scale": {"scale": 5.0, "features": "mean"},
    "calibrated_by_itself": {"guidance": "color", "scale": "auto", "features": "mean"},
    "elsewhere": {"guidance": "edges", "scale": "edges", "strength": 0.9, "features": "mean"},
    "truth_of_another": {
        "scale": "ground_truth_guided",
        "source": "stimulus",
        "features": "another_image",
    },
}


def resolve(**guided):
    """The shipped variants, some more, and ``guided`` with other settings."""
    shipped = {name: one.model_dump() for name, one in Reconstruction().variants.items()}
    shipped["guided"] |= guided
    return Reconstruction(variants=shipped | FURTHER).resolved_variants


BELONGING = {
    "guided": ["wrong_image", "mean_feature"],
    "ground_truth_guided": ["truth_of_another"],
    "brain_encoding": ["spelt_out"],
    "scale_100_strength_100": ["strong_by_mean"],
    "color": ["color_of_another"],
    "clip_and_color": ["sum_by_mean"],
}


@pytest.mark.parametrize("scale", [300_000.0, "auto"])
def test_a_control_differs_from_its_variant_in_features_alone(scale):
    variants = resolve(scale=scale)
    assert gains.find_controls(variants, variants) == BELONGING


def test_only_what_was_measured_belongs_together():
    run = ["guided", "unguided", "mean_feature", "color_of_another", "guided_best"]
    assert gains.find_controls(resolve(), run) == {"guided": ["mean_feature"]}


def invent(names):
    rng = np.random.default_rng(0)
    return {
        (name, subject): pd.DataFrame(
            {"pixcorr": rng.normal(0.5, 0.1, 20)}, index=3 * np.arange(20)
        )
        for name in names
        for subject in (["stimulus"] if "truth" in name else ["subj01", "subj02"])
    }


def compare(values):
    return gains.compare_with_controls(
        values,
        variants=resolve(),
        metrics=METRICS,
        bootstrap=BootstrapSettings(draws=200),
    )


def test_each_meets_no_guidance_of_its_own_source():
    names = ["guided", "unguided", "ground_truth_unguided", "wrong_image", "mean_feature"]
    names += ["ground_truth_guided", "truth_of_another", "color"]
    values = invent(names)
    table = compare(values)
    assert list(table.columns) == gains.GAINS
    told = table[["of", "variant", "features", "reference"]].itertuples(index=False, name=None)
    assert list(told) == [
        ("guided", "guided", "own", "unguided"),
        ("guided", "wrong_image", "another_image", "unguided"),
        ("guided", "mean_feature", "mean", "unguided"),
        ("ground_truth_guided", "ground_truth_guided", "own", "ground_truth_unguided"),
        ("ground_truth_guided", "truth_of_another", "another_image", "ground_truth_unguided"),
    ]
    means = {
        name: np.mean([table["pixcorr"] for (other, _), table in values.items() if other == name])
        for name in names
    }
    for row in table.itertuples():
        assert row.difference == pytest.approx(means[row.variant] - means[row.reference])
        assert row.low < row.difference < row.high and row.n == 20


def test_p_is_adjusted_over_the_metrics_of_each_comparison():
    """By Holm over both: the smaller one doubles, the larger one is not below it."""
    noise = np.random.default_rng(1)
    values = {
        key: table.assign(ssim=table["pixcorr"] + noise.normal(0.05, 0.1, len(table)))
        for key, table in invent(["guided", "unguided", "mean_feature"]).items()
    }
    for _, rows in compare(values).groupby("variant"):
        low, high = rows.sort_values("p_value").itertuples()
        assert low.p_holm == pytest.approx(min(1, 2 * low.p_value))
        assert high.p_holm == pytest.approx(max(low.p_holm, high.p_value))


@pytest.mark.parametrize("names", [["guided", "unguided"], ["guided", "wrong_image"]])
def test_without_controls_or_without_no_guidance_the_table_is_empty(names):
    table = compare(invent(names))
    assert list(table.columns) == gains.GAINS and table.empty
