"""Configurations whose numbers can be worked out by hand."""

import pytest

from neuraldiffuser.inspection.check import read_config
from neuraldiffuser.provenance import REPOSITORY

TINY = ("config/fidelity/corrected.yaml", "config/mini.yaml", "tests/tiny_world.yaml")


@pytest.fixture(scope="session")
def tiny():
    """Two subjects of 2 sessions x 96 trials, 12 images that both see and 52 of their own."""
    return read_config([REPOSITORY / path for path in TINY])


@pytest.fixture(scope="session")
def paper():
    """The experiment that config.yaml is."""
    return read_config([])


@pytest.fixture
def with_keys():
    """Makes a configuration with some keys changed."""

    def change(path, **keys):
        import yaml

        overlay = path / "changes.yaml"
        overlay.write_text(yaml.safe_dump(keys))
        return read_config([overlay])

    return change
