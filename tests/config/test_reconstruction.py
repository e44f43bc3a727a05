"""Variants refer to each other soundly, and a stage sees no more than it reads."""

import pytest
from pydantic import ValidationError

from neuraldiffuser.config.reconstruction import (
    CalibrationSettings,
    ImageSettings,
    Reconstruction,
    Variant,
)


def message(**settings) -> str:
    with pytest.raises(ValidationError) as error:
        Reconstruction(**settings)
    return error.value.errors()[0]["msg"].removeprefix("Value error, ")


def test_the_defaults_hold_the_ten_columns_of_table_2():
    variants = Reconstruction().resolved_variants
    columns = {
        (variant.scale * variant.scale_factor, variant.strength)
        for variant in variants.values()
        if (variant.source, variant.guidance, variant.features) == ("brain", "clip_layers", "own")
    }
    assert columns == {
        (3e3, 1.0),
        (3e4, 1.0),
        *((3e5, strength) for strength in (1.0, 0.8, 0.6, 0.4, 0.2, 0.1)),
        (3e6, 1.0),
    }
    assert variants["unguided"].guidance == "none"


@pytest.mark.parametrize("scale", ["3e5", 300000, "300000"])
def test_a_scale_may_be_a_number_in_any_spelling(scale):
    assert Variant(scale=scale).scale == 3e5


def test_a_lent_number_is_resolved_and_a_lent_calibration_stays_a_name():
    numbers = Reconstruction(variants={"a": {"scale": 7}, "b": {"scale": "a"}}, run=["b"])
    assert numbers.resolved_variants["b"].scale == 7
    automatic = Reconstruction(variants={"a": {"scale": "auto"}, "b": {"scale": "a"}}, run=["b"])
    assert automatic.resolved_variants["b"].scale == "a"


def test_a_variant_that_runs_must_exist():
    assert message(run=["guide"]).startswith("run names guide; known variants are guided, ")


def test_a_lender_must_exist():
    assert message(variants={"a": {"scale": "b"}}, run=["a"]) == (
        "variants.a.scale is b; give a number, auto or one of a"
    )


def test_a_lender_must_guide_alike():
    variants = {"a": {"scale": "auto", "source": "stimulus"}, "b": {"scale": "a"}}
    assert message(variants=variants, run=["b"]) == (
        "variants.b takes the scale of a, whose source or guidance differs; give it a scale of its"
        " own"
    )


def test_a_lender_must_have_a_scale_of_its_own():
    variants = {"a": {"scale": "auto"}, "b": {"scale": "a"}, "c": {"scale": "b"}}
    assert message(variants=variants, run=["c"]) == (
        "variants.c takes the scale of b, which takes that of a; name a instead"
    )


def test_a_stage_sees_no_variants_and_nothing_it_does_not_read():
    settings = Reconstruction(steps=20, repeats=3, calibration_images=9)
    images = settings.image_settings["guided"]
    calibration = settings.calibration_settings["guided"]
    assert type(images) is ImageSettings
    assert type(calibration) is CalibrationSettings
    assert (images.steps, images.repeats) == (20, 3)
    assert calibration.calibration_images == 9
    assert not hasattr(images, "calibration_images")
    assert not hasattr(calibration, "repeats")


GUIDED_KEYS = {
    "tweedie": "exact",
    "latent_blend": "none",
    "guidance_prediction": "classifier_free",
    "guided_steps": "last",
    "non_finite_gradients": "clip",
    "guidance": {"clip_layers": {"loss": "sum_squares"}, "color": {"grid": 2}},
}


@pytest.mark.parametrize("key", GUIDED_KEYS)
def test_a_key_of_guidance_concerns_guided_variants_alone(key):
    plain, changed = Reconstruction(), Reconstruction(**{key: GUIDED_KEYS[key]})
    for name in ("image_settings", "calibration_settings"):
        before, after = getattr(plain, name), getattr(changed, name)
        assert before["guided"] != after["guided"]
        assert before["unguided"] == after["unguided"]


def test_settings_of_a_function_concern_the_variants_that_it_guides():
    plain = Reconstruction().image_settings
    changed = Reconstruction(guidance={"color": {"grid": 2}}).image_settings
    moved = {name for name in plain if plain[name] != changed[name]}
    assert moved == {"color", "clip_and_color"}


def test_a_sum_has_a_term_for_each_function_and_borrows_by_function():
    settings = Reconstruction(
        variants={
            "a": {"scale": 7},
            "b": {"guidance": {"clip_layers": {"scale": "a", "scale_factor": 2}, "edges": {}}},
        },
        run=["b"],
    )
    terms = settings.resolved_variants["b"].terms
    assert list(terms) == ["clip_layers", "edges"]
    assert (terms["clip_layers"].scale, terms["clip_layers"].scale_factor) == (7, 2)
    assert terms["edges"].scale == "auto"


def test_a_lender_must_be_guided_by_the_function_that_borrows():
    variants = {"a": {"scale": 7}, "b": {"guidance": {"edges": {"scale": "a"}}}}
    assert message(variants=variants, run=["b"]).startswith("variants.b takes the scale of a, ")


def test_a_single_function_and_a_sum_of_one_are_the_same_terms():
    flat = Variant(guidance="color", scale="auto", ratio=0.3)
    assert flat.terms == Variant(guidance={"color": {"ratio": 0.3}}).terms
    assert Variant(guidance="none").terms == {}


def test_voxels_guide_no_stimulus():
    with pytest.raises(ValidationError, match="set source to brain"):
        Variant(source="stimulus", guidance="encoder")


def test_a_selection_chooses_from_a_variant_and_has_its_own_name():
    selections = {"best": {"of": "guided"}}
    settings = Reconstruction(selections=selections, run=["best", "unguided"])
    assert settings.variant_of("best") == settings.variants["guided"]
    assert settings.variant_of("unguided") == settings.variants["unguided"]
    assert message(selections={"best": {"of": "guide"}}, run=["best"]).startswith(
        "selections.best chooses from guide; known variants are guided, "
    )
    assert message(selections={"guided": {"of": "unguided"}}, run=["guided"]) == (
        "selections.guided has the name of a variant; choose another"
    )
