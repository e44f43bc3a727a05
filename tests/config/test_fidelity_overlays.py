"""The two overlays set every switch of config/fidelity.py, and nothing else."""

import pytest
import yaml

from neuraldiffuser.config.base import lookup
from neuraldiffuser.config.documents import REPOSITORY
from neuraldiffuser.config.fidelity import READINGS, SWITCHES
from neuraldiffuser.config.root import Config


def leaves(value, prefix=()):
    if isinstance(value, dict):
        return {
            key: leaf
            for name in value
            for key, leaf in leaves(value[name], (*prefix, name)).items()
        }
    return {".".join(prefix): tuple(value) if isinstance(value, list) else value}


@pytest.mark.parametrize("reading", READINGS)
def test_an_overlay_is_its_reading(reading):
    overlay = yaml.safe_load((REPOSITORY / f"config/fidelity/{reading}.yaml").read_text())
    assert leaves(overlay) == {switch.key: getattr(switch, reading) for switch in SWITCHES}


@pytest.mark.parametrize("switch", SWITCHES, ids=lambda switch: switch.key)
def test_the_defaults_are_the_released_reading(switch):
    assert lookup(Config(), switch.key) == switch.released
