"""Variants refer to each other soundly, and a stage sees no more than it reads."""

import pytest
from pydantic import ValidationError

from neuraldiffuser.config.reconstruction import (
    CalibrationSettings,
    ImageSettings,
    Reconstruction,
    Variant,
)
from neuraldiffuser.config.root import Config
from neuraldiffuser.config.stages import stage_settings


def message(**settings) -> str:
    with pytest.raises(ValidationError) as error:
        Reconstruction(**settings)
    return error.value.errors()[0]["msg"].removeprefix("Value error, ")


def test_the_defaults_hold_the_ten_columns_of_table_2():
    variants = Reconstruction().resolved_variants
    columns = {
        (variant.terms["clip_layers"].scale, variant.strength)
        for variant in variants.values()
        if (variant.source, [*variant.terms], variant.features) == ("brain", ["clip_layers"], "own")
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
    assert numbers.resolved_variants["b"].terms["clip_layers"].scale == 7
    automatic = Reconstruction(variants={"a": {"scale": "auto"}, "b": {"scale": "a"}}, run=["b"])
    assert automatic.resolved_variants["b"].terms["clip_layers"].scale == "a"


def test_a_lender_lends_its_scale_and_not_its_factor():
    variants = {
        "a": {"scale": 7, "scale_factor": 2},
        "b": {"scale": "a"},
        "c": {"scale": "a", "scale_factor": 3},
    }
    resolved = Reconstruction(variants=variants, run=["c"]).resolved_variants
    scales = {name: one.terms["clip_layers"].scale for name, one in resolved.items()}
    assert scales == {"a": 14, "b": 7, "c": 21}


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


IMAGES, CALIBRATION = "reconstruct_images", "calibrate_guidance"
VARIANTS = {
    "number": {"scale": 7.0},
    "calibrated": {},
    "borrowed": {"scale": "calibrated"},
    "unguided": {"guidance": "none"},
    "summed": {"guidance": {"clip_layers": {"scale": "calibrated"}, "color": {}}},
    "voxels": {"guidance": "encoder"},
}


def read_by(stage, variants=VARIANTS, **sections):
    """What a stage is told of each variant."""
    reconstruction = {"variants": variants, "selections": {}, "run": ["unguided"]}
    sections["reconstruction"] = reconstruction | sections.get("reconstruction", {})
    config = Config.model_validate({"evaluation": {"comparisons": {}}} | sections)
    return {name: stage_settings(stage, config, {"variant": name}) for name in variants}


def moved(stage, variants=VARIANTS, **sections):
    """Names of the variants of which a stage is told something else once this has changed."""
    before, after = read_by(stage), read_by(stage, variants, **sections)
    return {name for name in VARIANTS if before[name] != after[name]}


@pytest.mark.parametrize("key", GUIDED_KEYS)
def test_a_key_of_guidance_concerns_guided_variants_alone(key):
    changes = {"reconstruction": {key: GUIDED_KEYS[key]}}
    assert moved(IMAGES, **changes) >= {"number", "calibrated", "borrowed", "summed"}
    assert "calibrated" in moved(CALIBRATION, **changes)
    assert "unguided" not in moved(IMAGES, **changes)
    assert not moved(CALIBRATION, **changes) & {"unguided", "number", "borrowed"}


@pytest.mark.parametrize(
    ("sections", "images", "calibrations"),
    [
        ({"reconstruction": {"guidance": {"color": {"grid": 2}}}}, {"summed"}, {"summed"}),
        (
            {"targets": {"clip_image": {"antialias": True}}},
            {"number", "calibrated", "borrowed", "summed"},
            {"calibrated"},
        ),
        ({"voxels": {"missing_repeats": "skipped"}}, {"voxels"}, {"voxels"}),
    ],
    ids=("a function's settings", "layers", "voxels"),
)
def test_what_a_function_reads_concerns_the_variants_that_it_guides(sections, images, calibrations):
    assert moved(IMAGES, **sections) == images
    assert moved(CALIBRATION, **sections) == calibrations


def test_a_sum_of_squares_weights_no_layer():
    def settings(loss, *weights):
        return {"clip_layers": {"loss": loss, "layer_weights": weights}}

    for loss, same in (("sum_squares", True), ("weighted_mean", False)):
        first, second = (
            read_by(IMAGES, reconstruction={"guidance": settings(loss, 1, weight)})
            for weight in (2, 3)
        )
        assert (first == second) is same


# A changed key of a variant, and the variants whose images and calibrations read it.
VARIANT_KEYS = {
    "scale": (9.0, {"number", "calibrated", "borrowed", "voxels"}, {"calibrated", "voxels"}),
    "scale_factor": (2.0, {"number", "calibrated", "borrowed", "voxels"}, set()),
    "ratio": (0.3, set(), {"calibrated", "voxels"}),
    "strength": (
        0.4,
        {"number", "calibrated", "borrowed", "summed", "voxels"},
        {"calibrated", "summed", "voxels"},
    ),
    "features": ("mean", {"number", "calibrated", "borrowed", "summed", "voxels"}, set()),
    "source": ("stimulus", set(VARIANTS), set()),
    "guidance": ("edges", set(VARIANTS), {"calibrated", "unguided", "summed", "voxels"}),
}


def test_every_key_of_a_variant_is_tried_here():
    assert set(VARIANT_KEYS) == set(Variant.model_fields)


# A sum has its own scales, voxels no stimulus, and a borrower must be like its lender.
REFUSED = {
    *(("summed", key) for key in ("scale", "scale_factor", "ratio", "source")),
    ("voxels", "source"),
    ("borrowed", "source"),
    ("borrowed", "guidance"),
}


@pytest.mark.parametrize("key", VARIANT_KEYS)
@pytest.mark.parametrize("name", VARIANTS)
def test_a_key_of_a_variant_concerns_what_reads_it(name, key):
    value, images, calibrations = VARIANT_KEYS[key]
    lender = {"lender": {}}  # stays as it is
    borrowing = {
        "borrowed": {"scale": "lender"},
        "summed": {"guidance": {"clip_layers": {"scale": "lender"}, "color": {}}},
    }
    variants = VARIANTS | lender | borrowing
    changed = variants | {name: variants[name] | {key: value}}
    if (name, key) in REFUSED:
        with pytest.raises(ValidationError):
            read_by(IMAGES, changed)
        return
    for stage, expected in ((IMAGES, images), (CALIBRATION, calibrations)):
        moves = read_by(stage, variants)[name] != read_by(stage, changed)[name]
        assert moves is (name in expected)


@pytest.mark.parametrize(("key", "value"), [("scale", 5), ("scale_factor", 2), ("ratio", 3)])
def test_a_scale_beside_a_sum_is_refused(key, value):
    with pytest.raises(ValidationError) as error:
        Variant(guidance={"color": {}}, **{key: value})
    assert error.value.errors()[0]["msg"].removeprefix("Value error, ") == (
        f"{key} stands beside a sum of guidance functions, each of which has its own; move it:"
        f" {{guidance: {{color: {{{key}: ...}}}}}}"
    )


@pytest.mark.parametrize("settings", [{"scale": -5}, {"scale": "-5"}, {"guidance": {}}])
def test_negative_scales_and_empty_sums_are_refused(settings):
    with pytest.raises(ValidationError):
        Variant(**settings)


def test_a_scale_that_is_not_given_is_calibrated():
    assert Variant(guidance="color").terms == Variant(guidance={"color": {}}).terms
    assert Variant().terms["clip_layers"].scale == "auto"


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
    assert (terms["clip_layers"].scale, terms["clip_layers"].scale_factor) == (14, 1)
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


@pytest.mark.parametrize("kind", ["variants", "selections"])
def test_the_stimuli_keep_their_name(kind):
    given = {"variants": {"stimulus": {}}, "selections": {"stimulus": {"of": "guided"}}}[kind]
    assert message(**{kind: given}, run=["stimulus"]) == (
        "stimulus means the stimuli themselves; give variants other names"
    )


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
