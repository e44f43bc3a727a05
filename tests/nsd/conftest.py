import numpy as np
import pandas as pd
import pytest

from neuraldiffuser.nsd.recordings import Recordings
from neuraldiffuser.nsd.selection import Selection

SESSIONS = (1, 2, 4)
PER_SESSION, VOXELS = 24, 5


@pytest.fixture
def trials():
    """Three trials of each of 24 images, a third of them shared; session 3 does not exist."""
    ids = np.random.default_rng(1).permutation(np.tile(np.arange(24), 3))
    table = pd.DataFrame({"session": np.repeat(SESSIONS, PER_SESSION), "id": ids})
    return table.assign(repeat=table.groupby("id").cumcount(), shared=table["id"] % 3 == 0)


@pytest.fixture
def recordings(trials):
    """Drifting means and scales; voxel 2 is zero in session 2, voxel 4 in all, 3 constant in 4."""
    rng = np.random.default_rng(3)
    sessions = [
        np.rint(300 * (rng.normal(size=(PER_SESSION, VOXELS)) * number + 10 * number))
        for number in SESSIONS
    ]
    sessions[1][:, 2] = 0
    sessions[2][:, 3] = 1234
    for session in sessions:
        session[:, 4] = 0
    stored = [session.astype(np.int16) for session in sessions]
    return Recordings(stored, trials, missing=(3,))


@pytest.fixture
def selection():
    return Selection(
        volume_shape=(2, 3, 4),
        index=np.array([1, 4, 9, 12, 20]),
        roi=np.array([0, 1, 3, 7, 7], np.uint8),
        noise_ceiling=np.array([10, 20, 30, 40, 0], np.float32),
    )
