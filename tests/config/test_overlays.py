"""The overlays of the miniature hold together, in every combination that may be asked for."""

import itertools

import pytest
import yaml
from snakemake.utils import update_config

from neuraldiffuser.config.documents import REPOSITORY
from neuraldiffuser.config.validation import validate
from neuraldiffuser.evaluation.gains import find_controls
from neuraldiffuser.evaluation.sweep import find_lines

OPTIONAL = ("mini_released", "mini_sweep", "mini_functions")
COMBINATIONS = [
    (reading, "mini", *some)
    for reading in ("fidelity/released", "fidelity/corrected")
    for number in range(len(OPTIONAL) + 1)
    for some in itertools.combinations(OPTIONAL, number)
]


def merge(*names):
    """The configuration as Snakemake merges it from its files."""
    merged = {}
    for path in ("config.yaml", *(f"config/{name}.yaml" for name in names)):
        update_config(merged, yaml.safe_load((REPOSITORY / path).read_text()))
    return validate(merged)


def run(*names):
    """What the corrected miniature runs with these overlays."""
    return merge("fidelity/corrected", "mini", *names).reconstruction


@pytest.mark.parametrize("names", COMBINATIONS, ids=" + ".join)
def test_every_combination_is_a_configuration(names):
    expected = "mini_released" if "mini_released" in names else "mini"
    assert merge(*names).experiment == expected


@pytest.mark.parametrize("overlay", ["mini_sweep", "mini_functions"])
def test_an_overlay_makes_anew_nothing_that_the_demo_made(overlay):
    demo, more = run(), run(overlay)
    assert set(demo.run) < set(more.run)
    for name in demo.variants:
        assert demo.resolved_variants[name] == more.resolved_variants[name]
        assert demo.image_settings[name] == more.image_settings[name]


def test_the_sweep_has_every_column_of_table_2_and_controls_at_its_strongest():
    settings = run("mini_sweep")
    lines = find_lines(settings.variants, settings.run)
    places = {line.axis: list(line.variants) for line in lines}
    assert places == {"scale": [0, 0.01, 0.1, 1, 10], "strength": [0, 0.1, 0.2, 0.4, 0.6, 0.8, 1]}
    beside = {line.axis: sorted(line.controls.values()) for line in lines}
    strongest = [(1, "another_image"), (1, "mean")]
    assert beside["scale"] == strongest
    assert beside["strength"] == sorted([(0.2, "another_image"), (0.2, "mean"), *strongest])


@pytest.mark.parametrize(
    ("overlay", "told"),
    [
        ("mini_sweep", {"guided", "scale_100_strength_100"}),
        (
            "mini_functions",
            {"guided", "encoder", "brain_encoding", "color", "edges", "clip_and_color"},
        ),
    ],
)
def test_each_gain_has_both_controls(overlay, told):
    settings = run(overlay)
    variants = settings.resolved_variants
    found = find_controls(variants, settings.run)
    assert set(found) == told
    for name, controls in found.items():
        assert {variants[each].features for each in controls} == {"another_image", "mean"}, name
        assert {variants[each].strength for each in controls} == {variants[name].strength}


def test_functions_are_compared_at_one_strength_but_for_table_4():
    settings = run("mini_functions")
    strengths = {name: settings.variants[name].strength for name in ("color", "edges", "encoder")}
    strengths["clip_and_color"] = settings.variants["clip_and_color"].strength
    assert set(strengths.values()) == {settings.variants["guided"].strength}
    assert settings.variants["brain_encoding"].strength == 1
