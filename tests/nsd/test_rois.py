import nibabel
import numpy as np
import pytest

from neuraldiffuser.errors import DataError
from neuraldiffuser.nsd import rois

MASK = np.array([[[-1, 1, 1], [0, 1, -1]], [[1, 1, 1], [1, 0, 1]]])
AREAS = np.array([[[-1, 1, 2], [5, 3, -1]], [[4, 7, 0], [-1, 6, 5]]])


def test_nsdgeneral_is_label_one_alone_in_c_order():
    assert rois.nsdgeneral_index(MASK).tolist() == [1, 2, 4, 6, 7, 8, 9, 11]


def test_labels_belong_to_their_voxels_and_minus_one_is_none():
    labels = rois.visual_labels(AREAS, index=rois.nsdgeneral_index(MASK))
    assert labels.tolist() == [1, 2, 3, 4, 7, 0, 0, 5]
    assert labels.dtype == np.uint8


def test_areas_and_higher_cover_nsdgeneral_once():
    regions = rois.regions(np.array([1, 2, 3, 4, 7, 0, 0, 5]))
    assert {name: np.flatnonzero(mask).tolist() for name, mask in regions.items()} == {
        "nsdgeneral": list(range(8)),
        "V1": [0, 1],
        "V2": [2, 3],
        "V3": [7],
        "V4": [4],
        "higher": [5, 6],
    }


def test_damaged_volumes_are_refused(tmp_path):
    path = tmp_path / "nsdgeneral.nii.gz"
    with pytest.raises(DataError, match="is missing; fetch it again"):
        rois.read_volume(path)
    noise = np.random.default_rng(0).integers(-1, 2, (20, 20, 20)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(noise, np.eye(4)), path)
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(DataError, match="is truncated or is no NIfTI file; delete it and run"):
        rois.read_volume(path)


def test_four_dimensions_are_refused(tmp_path):
    path = tmp_path / "x.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.zeros((2, 3, 4, 5), np.int16), np.eye(4)), path)
    with pytest.raises(DataError, match=r"has shape \(2, 3, 4, 5\); expected a volume"):
        rois.read_volume(path)
