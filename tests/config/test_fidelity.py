"""The declared switches exist, their values are valid, and the page tells them."""

from dataclasses import replace

import pytest
import yaml
from pydantic import ValidationError

from neuraldiffuser.config import fidelity
from neuraldiffuser.config.base import merge
from neuraldiffuser.config.fidelity import SWITCHES, fidelity_page, name_reading
from neuraldiffuser.config.root import Config
from neuraldiffuser.config.validation import validate


def with_value(key, value):
    """The defaults with one key changed, validated as a whole."""
    changed = Config().model_dump(mode="json")
    place = changed
    *folders, last = key.split(".")
    for name in folders:
        place = place[name]
    place[last] = value
    return Config.model_validate(changed)


@pytest.mark.parametrize("switch", SWITCHES, ids=lambda switch: switch.key)
@pytest.mark.parametrize("reading", fidelity.READINGS)
def test_both_values_of_a_switch_are_valid(switch, reading):
    value = getattr(switch, reading)
    assert fidelity.lookup(with_value(switch.key, value), switch.key) == value


@pytest.mark.parametrize("switch", SWITCHES, ids=lambda switch: switch.key)
def test_a_value_of_no_reading_is_refused(switch):
    with pytest.raises(ValidationError):
        with_value(switch.key, "nobody's reading")


def test_no_switch_is_declared_twice():
    assert len({switch.key for switch in SWITCHES}) == len(SWITCHES)


def test_the_page_is_the_generated_one():
    assert fidelity.PAGE.read_text(encoding="utf-8") == fidelity_page(), (
        "run python -m neuraldiffuser.config.fidelity and commit docs/fidelity.md"
    )


def test_the_page_has_a_row_of_eight_cells_for_every_switch():
    rows = [row for row in fidelity_page().splitlines() if row.startswith("| `")]
    assert len(rows) == len(SWITCHES)
    assert {row.count(" | ") for row in rows} == {7}


def test_the_page_tells_what_has_no_switch():
    section = fidelity_page().partition("## Without a switch")[2]
    rows = section.splitlines()[4:]
    assert [row.split(" | ")[0].removeprefix("| ") for row in rows] == [
        each.place for each in fidelity.DEPARTURES
    ]
    assert {row.count(" | ") for row in rows} == {4}


def test_the_guidance_features_name_the_reading():
    assert name_reading(Config()) == "released reading: MLP branches of blocks 1–6"
    corrected = with_value("targets.clip_image.node", "block_output")
    assert name_reading(corrected) == "corrected reading: block outputs of layers 2–12"


def test_departures_are_found(monkeypatch):
    assert fidelity.compare_reading(Config(), "released") == []
    first = replace(SWITCHES[0], released="another value")
    monkeypatch.setattr(fidelity, "SWITCHES", (first,))
    assert fidelity.compare_reading(Config(), "released") == [first]


@pytest.mark.parametrize("switch", SWITCHES, ids=lambda switch: switch.key)
def test_another_value_can_be_tried_of_every_switch(switch):
    """Also where both readings agree."""
    for value in (switch.released, switch.corrected):
        other = switch.other_than(value)
        assert other != value
        assert fidelity.lookup(with_value(switch.key, other), switch.key) == other


def test_the_budget_takes_contested_switches_first_and_leaves_out_what_does_not_fit():
    keys = fidelity.list_to_try(Config())
    chosen = fidelity.choose_within(keys, hours=1)
    seconds = fidelity.SECONDS[""] + sum(map(fidelity.expected_seconds, chosen))
    assert 3000 < seconds <= 3600
    contested = [fidelity.find_switch(key).contested for key in keys]
    assert contested == sorted(contested, reverse=True)


def test_every_switch_fits_into_the_budget_as_it_ships():
    """On the experiment that `make fidelity` runs."""
    configuration = Config().model_dump(mode="json")
    for name in ("fidelity/corrected", "mini", "mini_fidelity"):
        overlay = yaml.safe_load((fidelity.REPOSITORY / f"config/{name}.yaml").read_text())
        configuration = merge(configuration, overlay)
    config = validate(configuration)
    keys = fidelity.list_to_try(config)
    assert len(keys) == sum(not switch.unmeasurable for switch in SWITCHES)
    assert fidelity.choose_within(keys, hours=config.fidelity.hours) == keys


def test_the_longest_entry_that_leads_a_key_tells_its_seconds():
    assert fidelity.expected_seconds("decoder.backbone") == fidelity.SECONDS["decoder"]
    assert (
        fidelity.expected_seconds("decoder.prediction.alignment")
        == fidelity.SECONDS["decoder.prediction"]
    )


def test_effects_are_told_with_the_value_tried():
    effects = {
        "hours": 1.5,
        "left_out": ["voxels.test_average"],
        "switches": {"voxels.normalisation": {"value": "global_training", "effect": "much"}},
    }
    told = {
        key: fidelity.tell_effect(fidelity.find_switch(key), effects)
        for key in (
            "voxels.normalisation",
            "voxels.test_average",
            "evaluation.ssim",
            "targets.vae_latent.autoencoder",
        )
    }
    assert list(told.values()) == [
        "`global_training`: much",
        "not run: beyond the budget of 1.5 h",
        "not yet measured",
        "not measurable on the miniature: it has one autoencoder",
    ]
