"""NSD's own counts, by which a wrong mask or a wrong design shows.

Grids, sessions, trials and images: NSD data manual, "Technical notes". Voxels of nsdgeneral and the
trials and images of the splits: the dataset lists of MindEye and MindEye2.
"""

import numpy as np

from neuraldiffuser.errors import DataError
from neuraldiffuser.nsd.voxels import Voxels

AGREES = "agrees with NSD's published counts"
NOT_NSD = "not NSD's data: nothing to compare"

MASKED = "voxels in nsdgeneral"
TRIALS_PER_SESSION = 750
GRIDS = {  # of the 1.8 mm volumes
    "subj01": (81, 104, 83),
    "subj02": (82, 106, 84),
    "subj03": (81, 106, 82),
    "subj04": (85, 99, 80),
    "subj05": (79, 97, 78),
    "subj06": (85, 113, 83),
    "subj07": (78, 95, 81),
    "subj08": (80, 103, 78),
}
VOXELS = {
    "subj01": 15724,
    "subj02": 14278,
    "subj03": 15226,
    "subj04": 13153,
    "subj05": 13039,
    "subj06": 17907,
    "subj07": 12682,
    "subj08": 14386,
}
# After the first so many sessions; the order of pictures is the same for all subjects.
AFTER_SESSIONS: dict[int, dict[str, int]] = {
    40: {
        "images": 10000,
        "images shown twice or more": 10000,
        "images shown three times": 10000,
        "test images": 1000,
        "test trials": 3000,
    },
    37: {"training images": 8859, "test images": 982, "test trials": 2770},
    32: {
        "images": 9411,
        "images shown twice or more": 8355,
        "images shown three times": 6234,
        "test images": 930,
        "test trials": 2371,
    },
    30: {
        "images": 9209,
        "images shown twice or more": 7846,
        "images shown three times": 5445,
        "test images": 907,
        "test trials": 2188,
    },
    29: {"test trials": 2113},
    27: {"test trials": 1985},
}


def compare(voxels: Voxels) -> str:
    """What comparing a subject with what is published of it says: ``AGREES`` or ``NOT_NSD``.

    Raises:
        DataError: the voxels lie in the grid of NSD's subject of that name, but a count differs.
    """
    if GRIDS.get(voxels.subject) != voxels.selection.volume_shape:
        return NOT_NSD
    found = count(voxels)
    for name, expected in expect(voxels).items():
        if found[name] != expected:
            blamed = "nsdgeneral mask" if name == MASKED else "responses.tsv and the design file"
            raise DataError(
                f"{voxels.subject} has {found[name]} {name} where NSD counts {expected}; fetch its "
                f"{blamed} again."
            )
    return AGREES


def count(voxels: Voxels) -> dict[str, int]:
    """What can be compared: voxels, trials and images of a subject."""
    training, test = np.unique(voxels.training.id), np.unique(voxels.test.id)
    _, shown = np.unique(np.concatenate([voxels.training.id, voxels.test.id]), return_counts=True)
    return {
        MASKED: len(voxels.selection.index) + voxels.dropped_voxels,
        "trials": int(shown.sum()),
        "test trials": len(voxels.test.id),
        "images": len(shown),
        "images shown twice or more": int((shown >= 2).sum()),
        "images shown three times": int((shown == 3).sum()),
        "training images": len(training),
        "test images": len(test),
    }


def expect(voxels: Voxels) -> dict[str, int]:
    """What is published of a subject with these sessions."""
    sessions = len(voxels.statistics.session)
    complete = not voxels.missing_sessions
    return {
        MASKED: VOXELS[voxels.subject],
        "trials": TRIALS_PER_SESSION * sessions,
        **(AFTER_SESSIONS.get(sessions, {}) if complete else {}),
    }
