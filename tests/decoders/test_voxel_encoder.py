import pytest
import torch

from neuraldiffuser.decoders.voxel_encoder import VoxelEncoders, linear_encoder
from neuraldiffuser.errors import DataError


def make_encoders():
    return VoxelEncoders({"subj02": 5, "subj01": 7}, lambda count: linear_encoder(count, 3))


def test_each_subject_has_its_own_encoder_and_rows_keep_the_order_of_subjects():
    encoders = make_encoders()
    voxels = {"subj02": torch.randn(2, 5), "subj01": torch.randn(4, 7)}
    encoded = encoders(voxels)
    assert encoded.shape == (6, 3)
    for rows, subject in ((slice(0, 2), "subj02"), (slice(2, 6), "subj01")):
        layer = encoders.encoders[subject]
        expected = voxels[subject] @ layer.weight.T + layer.bias
        torch.testing.assert_close(encoded[rows], expected)


def test_an_unknown_subject_is_named():
    with pytest.raises(DataError) as error:
        make_encoders()({"subj05": torch.randn(1, 7)})
    assert str(error.value) == (
        "no voxel encoder for subj05: this decoder knows subj02, subj01; use a decoder that was "
        "trained on that subject."
    )
