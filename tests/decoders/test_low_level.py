import pytest
import torch
from planted_world import small_recipe

from neuraldiffuser.decoders.low_level import LowLevelDecoder
from neuraldiffuser.errors import DataError

RECIPE = small_recipe()


def make(shape):
    return LowLevelDecoder({"subj01": 6}, shape, network=RECIPE.network, low_level=RECIPE.low_level)


def test_maps_are_normalised_and_upsampled_to_the_latent():
    model = make((4, 8, 12)).eval()
    voxels = {"subj01": torch.randn(3, 6)}
    maps = model.maps(voxels)
    assert maps.shape == (3, 8, 4, 6)
    torch.testing.assert_close(maps.mean(dim=(1, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    assert model(voxels).shape == (3, 4, 8, 12)


def test_residual_blocks_add_to_their_input():
    model = make((4, 8, 8)).eval()
    voxels = {"subj01": torch.randn(3, 6)}
    x = model.voxel_encoder(voxels)
    for block in model.blocks:
        x = x + block(x)
    expected = model.norm(model.to_maps(x).reshape(3, 8, 4, 4))
    torch.testing.assert_close(model.maps(voxels), expected)


def test_a_latent_that_the_upsampler_cannot_reach_is_refused():
    with pytest.raises(DataError) as error:
        make((4, 9, 8))
    assert str(error.value) == (
        "the latent is 9 x 8, which an upsampler of 2 levels cannot reach; give "
        "decoder.low_level.upsampler_channels fewer levels."
    )
