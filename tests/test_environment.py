"""One set of pins: pip's, conda's, the container's and the profiles' shared keys agree."""

import re
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).parents[1]
MACHINE_KEYS = {"cores"}  # of profiles/default


def pins() -> list[str]:
    lines = (REPOSITORY / "requirements.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_conda_environment_holds_the_same_pins():
    environment = yaml.safe_load((REPOSITORY / "envs/neuraldiffuser.yaml").read_text())
    assert environment["dependencies"][-1]["pip"] == pins()


def test_the_container_installs_these_pins_and_no_others():
    recipe = (REPOSITORY / "envs/Dockerfile").read_text()
    assert re.findall(r"^COPY (.+)$", recipe, re.M) == ["requirements.txt /opt/neuraldiffuser/"]
    assert re.findall(r"pip install (.+)$", recipe, re.M) == [
        "--no-cache-dir --requirement /opt/neuraldiffuser/requirements.txt"
    ]
    assert "!requirements.txt" in (REPOSITORY / ".dockerignore").read_text().splitlines()


def test_the_container_and_conda_take_the_same_python():
    environment = yaml.safe_load((REPOSITORY / "envs/neuraldiffuser.yaml").read_text())
    recipe = (REPOSITORY / "envs/Dockerfile").read_text()
    (version,) = re.findall(r"^FROM python:(\d+\.\d+)-slim-bookworm$", recipe, re.M)
    assert environment["dependencies"][0] == f"python={version}"


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
