"""One set of pins: pip's, conda's and the profiles' shared keys agree."""

from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).parents[1]
MACHINE_KEYS = {"cores", "resources"}


def pins() -> list[str]:
    lines = (REPOSITORY / "requirements.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_conda_environment_holds_the_same_pins():
    environment = yaml.safe_load((REPOSITORY / "envs/neuraldiffuser.yaml").read_text())
    assert environment["dependencies"][-1]["pip"] == pins()


@pytest.mark.parametrize("pin", pins())
def test_every_requirement_is_pinned(pin):
    assert "==" in pin


def test_slurm_profile_repeats_what_belongs_to_the_workflow():
    default, slurm = (
        yaml.safe_load((REPOSITORY / f"profiles/{name}/profile.yaml").read_text())
        for name in ("default", "slurm")
    )
    shared = {key: value for key, value in default.items() if key not in MACHINE_KEYS}
    assert {key: slurm.get(key) for key in shared} == shared
