import numpy as np
import pytest

from neuraldiffuser.nsd import voxels
from neuraldiffuser.nsd.data_card import describe


def test_card_counts_voxels_trials_and_ceilings(betas, rows, selection):
    built = voxels.build_voxels(
        betas,
        rows,
        subject="subj01",
        selection=selection,
        normalisation="session_training",
        invalid_voxels="zero",
    )
    card = describe([built]).set_index("region")
    assert card["voxels"].to_dict() == {"nsdgeneral": 5, "V1": 1, "V2": 1, "V4": 2, "higher": 1}
    assert card["invalid_voxels"].to_dict() == {
        "nsdgeneral": 2,
        "V1": 0,
        "V2": 1,
        "V4": 1,
        "higher": 0,
    }
    assert card.loc["nsdgeneral", "noise_ceiling"] == pytest.approx(np.mean([10, 20, 30, 40, 0]))
    assert card.loc["V4", "noise_ceiling_50"] == pytest.approx(20)
    assert (card["sessions"] == 3).all()
    assert card.loc["V1", ["training_trials", "training_images"]].tolist() == [48, 16]
    assert card.loc["V1", ["test_trials", "test_images"]].tolist() == [24, 8]
