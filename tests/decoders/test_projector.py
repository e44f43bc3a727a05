import torch

from neuraldiffuser.decoders.projector import TokenProjector, maps_projector


def test_tokens_are_projected_one_by_one():
    projector, x = TokenProjector(6).double(), torch.randn(2, 5, 6, dtype=torch.float64)
    order = torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(projector(x[:, order]), projector(x)[:, order])


def test_maps_keep_their_grid():
    assert maps_projector(4, 6, 3)(torch.randn(2, 4, 5, 7)).shape == (2, 3, 5, 7)
