import numpy as np
import pandas as pd
import pytest

from neuraldiffuser.nsd import voxels

SESSIONS, PER_SESSION, VOXELS = 3, 24, 5


@pytest.fixture
def rows():
    """Trials in no order; a third of the images is shared."""
    rng = np.random.default_rng(1)
    table = pd.DataFrame(
        {
            "session": np.repeat(np.arange(1, SESSIONS + 1), PER_SESSION),
            "id": rng.permutation(np.tile(np.arange(24), 3)),
            "repeat": 0,
        }
    )
    return table.assign(shared=table["id"] % 3 == 0).sample(frac=1, random_state=2)


@pytest.fixture
def betas(rows):
    """Drifting means and scales; voxel 2 is zero in session 2, voxel 4 in all sessions."""
    rng = np.random.default_rng(3)
    values = rng.normal(size=(len(rows), VOXELS)) * rows[["session"]].to_numpy()
    values = (values + 10 * rows[["session"]].to_numpy()).astype(np.float32)
    values[(rows["session"] == 2).to_numpy(), 2] = 0
    values[:, 4] = 0
    return values


@pytest.fixture
def selection():
    return voxels.Selection(
        volume_shape=(2, 3, 4),
        index=np.array([1, 4, 9, 12, 20]),
        roi=np.array([0, 1, 3, 7, 7], np.uint8),
        noise_ceiling=np.array([10, 20, 30, 40, 0], np.float32),
    )
