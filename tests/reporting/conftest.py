"""One invented experiment for all tests of this folder; none of them writes to it."""

import pytest
from reporting.invented_results import configure, invent

from neuraldiffuser.reporting import catalogue, figures
from neuraldiffuser.reporting.sources import Sources


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    return invent(tmp_path_factory.mktemp("invented"))


@pytest.fixture(scope="session")
def config(world):
    return configure(world)


@pytest.fixture(scope="session")
def experiment(config):
    return config.presentation


@pytest.fixture(scope="session")
def drawn(world, experiment):
    """Every figure, by name."""
    return {
        name: figures.FIGURES[name](
            Sources({kind: world.paths(kind) for kind in kinds}), experiment
        )
        for name, kinds in catalogue.FIGURES.items()
    }
