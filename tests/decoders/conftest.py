"""A planted world: two brains that see images linearly, and targets that follow from the images."""

import numpy as np
import pytest
import torch
from planted_world import SHAPES, SUBJECTS, write_target, write_voxels


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """Folder with voxels/{subject}.h5 and targets/{target}.h5; read it, never write it."""
    folder = tmp_path_factory.mktemp("world")
    sources = np.random.default_rng(0).standard_normal((400, 6))
    for number, subject in enumerate(SUBJECTS):
        write_voxels(folder / f"voxels/{subject}.h5", subject, number, sources)
    for target, shape in SHAPES.items():
        write_target(folder / f"targets/{target}.h5", shape, sources)
    return folder
