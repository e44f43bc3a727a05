"""What is published of NSD, against itself and against subjects made to fit or not to fit it."""

import numpy as np
import pytest
from planted_voxels import plant_voxels

from neuraldiffuser.config.nsd import SESSIONS
from neuraldiffuser.errors import DataError
from neuraldiffuser.nsd import published_counts
from neuraldiffuser.nsd.published_counts import AFTER_SESSIONS, GRIDS, VOXELS, compare
from neuraldiffuser.nsd.selection import Selection

REPEATS = {  # of training and test images: shown once, twice, three times
    40: ((0, 0, 9000), (0, 0, 1000)),
    32: ((957, 1900, 5624), (99, 221, 610)),
    30: ((1208, 2178, 4916), (155, 223, 529)),
}


def plant_subject(subject="subj01", *, voxels=None, sessions=None, **changes):
    """A subject of NSD with as many voxels, trials and images as published."""
    count = VOXELS[subject] if voxels is None else voxels
    sessions = sessions or SESSIONS[subject]
    training, test = (spread(*repeats) for repeats in REPEATS[SESSIONS[subject]])
    selection = Selection(GRIDS[subject], *[np.zeros(count, int)] * 3)
    return plant_voxels(
        training=training + 1000,
        test=test,
        selection=selection,
        valid=np.ones((sessions, count), bool),
        subject=subject,
        **changes,
    )


def spread(once, twice, thrice):
    """Ids of trials with these numbers of images."""
    return np.repeat(np.arange(once + twice + thrice), [1] * once + [2] * twice + [3] * thrice)


def test_published_images_add_up_to_published_trials():
    for sessions in set(SESSIONS.values()):
        names = ("images", "images shown twice or more", "images shown three times")
        shown = [AFTER_SESSIONS[sessions][name] for name in names]
        assert sum(shown) == published_counts.TRIALS_PER_SESSION * sessions


def test_published_voxels_add_up():
    assert sum(VOXELS.values()) == 116395
    assert set(VOXELS) == set(GRIDS) == set(SESSIONS)


@pytest.mark.parametrize("subject", sorted(SESSIONS))
def test_a_subject_like_the_published_one_agrees(subject):
    assert compare(plant_subject(subject)) == "agrees with NSD's published counts"


def test_a_mask_that_takes_every_label_but_minus_one_is_refused():
    with pytest.raises(DataError) as caught:
        compare(plant_subject(voxels=107402))
    assert str(caught.value) == (
        "subj01 has 107402 voxels in nsdgeneral where NSD counts 15724; fetch its nsdgeneral mask "
        "again."
    )


def test_voxels_that_were_dropped_count_as_voxels_of_the_mask():
    dropped = {"voxels": VOXELS["subj01"] - 12, "dropped_voxels": 12}
    assert compare(plant_subject(**dropped)) == published_counts.AGREES


def test_trials_of_another_subject_are_refused():
    voxels = plant_subject("subj03", sessions=40)
    with pytest.raises(DataError) as caught:
        compare(voxels)
    assert str(caught.value) == (
        "subj03 has 24000 trials where NSD counts 30000; fetch its responses.tsv and the design "
        "file again."
    )


def test_test_images_that_are_not_the_shared_ones_are_refused():
    voxels = plant_subject()
    voxels.test.id[:3] = 5000  # one image less, of which the training trials know as much
    with pytest.raises(DataError, match=r"images"):
        compare(voxels)


def test_with_sessions_missing_only_trials_are_compared():
    voxels = plant_subject("subj04", sessions=30, missing_sessions=(31,))
    voxels.test.id[:] = 7
    assert compare(voxels) == published_counts.AGREES


def test_another_grid_is_not_of_nsd():
    other = plant_subject("subj02")
    object.__setattr__(other, "subject", "subj01")
    assert compare(other) == "not NSD's data: nothing to compare"
