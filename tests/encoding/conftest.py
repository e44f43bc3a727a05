import pytest
from planted_responses import SETTINGS, plant


@pytest.fixture(scope="session")
def settings():
    return SETTINGS


@pytest.fixture(scope="session")
def planted():
    """Training, held-out and test responses of four voxels with known receptive fields."""
    return plant(320, seed=0), plant(40, seed=1), plant(60, seed=2)
