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
    images, calibration = settings.image_settings, settings.calibration_settings
    assert type(images) is ImageSettings
    assert type(calibration) is CalibrationSettings
    assert (images.steps, images.repeats) == (20, 3)
    assert calibration.calibration_images == 9
    assert not hasattr(images, "calibration_images")
    assert not hasattr(calibration, "repeats")
