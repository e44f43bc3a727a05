"""The sweep: which variants stand on its lines, paired differences, and what is said of them."""

import numpy as np
import pandas as pd
import pytest

from neuraldiffuser import storage
from neuraldiffuser.config.evaluation import BootstrapSettings, Judge
from neuraldiffuser.config.reconstruction import Reconstruction, Variant
from neuraldiffuser.errors import DataError
from neuraldiffuser.evaluation import sweep, trends
from neuraldiffuser.evaluation.metrics import metrics_of

VARIANTS = Reconstruction().variants
BOOTSTRAP = BootstrapSettings(draws=200)
METRICS = metrics_of(
    [
        Judge(name=name, label=name, network="n", node="p", measure=measure, level=level)
        for name, measure, level in (
            ("early", "identification", "early"),
            ("late", "identification", "late"),
            ("far", "distance", "late"),
            ("kernel", "kernel_distance", "late"),
        )
    ]
)
DETAIL, CONTENT, QUALITY = ("pixcorr", "early"), ("late", "far"), ("kernel",)
SWEPT = [
    name
    for name, variant in VARIANTS.items()
    if variant.source == "brain" and variant.guidance in ("none", "clip_layers")
]


def invent(effect, *, names=SWEPT, images=30):
    """Values per image of two subjects; ``effect(metric, variant)`` is what guidance changes."""
    rng = np.random.default_rng(0)
    base = {
        name: rng.normal(0.5, 0.1, images) for name in (*DETAIL, *CONTENT, *QUALITY, "consistency")
    }
    return {
        (name, subject): pd.DataFrame(
            {
                metric: values + effect(metric, VARIANTS[name]) + rng.normal(0, 0.01, images)
                for metric, values in base.items()
            },
            index=3 * np.arange(images),
        )
        for name in names
        for subject in ("subj01", "subj02")
    }


def compare(values):
    lines = sweep.find_lines(VARIANTS, (name for name, _ in values))
    return sweep.compare_lines(values, lines=lines, metrics=METRICS, bootstrap=BOOTSTRAP)


def rise_and_fall(metric, variant):
    """As in Table 2: detail grows until there is too much guidance, quality suffers all along."""
    if variant.guidance == "none" or variant.features != "own":
        return 0.02 * (metric == "consistency" and variant.guidance != "none")
    amount = variant.scale_factor * variant.strength
    if metric in DETAIL:
        return 0.2 * min(amount, 1) - 0.04 * max(amount - 1, 0)
    return {"late": -0.1, "far": 0.1, "kernel": 0.1}.get(metric, 0.05) * amount


def test_the_lines_are_the_rows_of_table_2():
    scale, strength = sweep.find_lines(VARIANTS, VARIANTS)
    assert (scale.axis, scale.fixed, list(scale.variants)) == ("scale", 1, [0, 0.01, 0.1, 1, 10])
    assert (strength.axis, strength.fixed) == ("strength", 1)
    assert list(strength.variants) == [0, 0.1, 0.2, 0.4, 0.6, 0.8, 1]
    assert scale.variants[0] == strength.variants[0] == "unguided"
    assert strength.variants[0.2] == "guided"
    assert strength.controls == {
        "wrong_image": (0.2, "another_image"),
        "mean_feature": (0.2, "mean"),
    }
    assert scale.controls == {}, "no control runs at strength 1"


def test_only_variants_that_were_measured_stand_on_a_line():
    run = ("unguided", "guided", "scale_100_strength_40", "wrong_image")
    (line,) = sweep.find_lines(VARIANTS, run)
    assert line.variants == {0: "unguided", 0.2: "guided", 0.4: "scale_100_strength_40"}
    assert list(line.controls) == ["wrong_image"]


@pytest.mark.parametrize(
    "run", [("guided", "scale_100_strength_40"), ("unguided", "guided"), ("unguided", "color")]
)
def test_without_two_guided_points_and_a_start_there_is_no_line(run):
    assert sweep.find_lines(VARIANTS, run) == []


def test_a_scale_of_its_own_or_another_function_stands_on_no_line():
    strange = {
        "own_scale": Variant(scale=5.0, strength=0.5),
        "other_function": Variant(scale="guided", guidance="color", strength=0.6),
        "other_source": Variant(scale="guided", source="stimulus", strength=0.7),
    }
    lines = sweep.find_lines(VARIANTS | strange, [*VARIANTS, *strange])
    assert lines == sweep.find_lines(VARIANTS, VARIANTS)


def test_of_variants_at_one_place_guided_stands_there_else_the_first():
    twins = {
        "twin_of_guided": Variant(scale="guided", strength=0.2),
        **VARIANTS,
        "twin_of_the_last": Variant(scale="guided", strength=1.0),
    }
    _, strength = sweep.find_lines(twins, twins)
    assert strength.variants[0.2] == "guided"
    assert strength.variants[1] == "scale_100_strength_100"


def test_differences_are_those_of_a_plain_loop():
    values = invent(rise_and_fall)
    table = compare(values)
    for row in table.sample(25, random_state=0).itertuples():
        differences = [
            np.mean(
                [values[row.variant, who].loc[image, row.metric] for who in ("subj01", "subj02")]
            )
            - np.mean(
                [values[row.reference, who].loc[image, row.metric] for who in ("subj01", "subj02")]
            )
            for image in values["unguided", "subj01"].index
        ]
        assert row.difference == pytest.approx(np.mean(differences), abs=1e-12)
        spread = np.std(differences) / np.sqrt(len(differences))
        assert (row.high - row.low) / 2 == pytest.approx(1.96 * spread, rel=0.35)


def test_every_point_meets_no_guidance_and_its_neighbour_and_the_last_meets_all():
    table = compare(invent(rise_and_fall)).query("line == 'scale' and metric == 'pixcorr'")
    assert set(zip(table["place"], table["reference_place"], strict=True)) == {
        *((place, 0) for place in (0.01, 0.1, 1, 10)),
        *((0.1, 0.01), (1, 0.1), (10, 1)),
        *((10, place) for place in (0.01, 0.1)),
    }


def test_controls_stand_beside_the_line_at_their_place():
    table = compare(invent(rise_and_fall))
    controls = table[table["features"] != "own"]
    assert set(controls["variant"]) == {"wrong_image", "mean_feature"}
    assert set(controls["place"]) == {0.2} and set(controls["reference"]) == {"unguided"}


def test_other_images_are_refused():
    values = invent(rise_and_fall)
    values = {key: table.iloc[1:] if key[0] == "guided" else table for key, table in values.items()}
    with pytest.raises(DataError, match="guided and unguided were measured on different images"):
        compare(values)


def test_measures_are_grouped_as_in_table_2():
    aspects = {name: sweep.aspect_of(metric) for name, metric in METRICS.items()}
    for aspect, names in (("detail", DETAIL), ("content", CONTENT), ("quality", QUALITY)):
        assert {aspects[name] for name in names} == {aspect}
    assert aspects["consistency"] == "repeats" and aspects["brain_correlation_V1"] == ""


def test_no_sweep_is_a_table_without_rows_and_nothing_is_told(tmp_path):
    storage.write_table(tmp_path / "sweep.csv", compare(invent(rise_and_fall, names=["guided"])))
    read = storage.read_table(tmp_path / "sweep.csv")
    assert list(read.columns) == sweep.SWEEP and read.empty
    assert trends.tell_lines(read) == []
