import pytest
import torch

from neuraldiffuser.config.decoder import Network
from neuraldiffuser.decoders.backbones import BACKBONES

NETWORK = Network(hidden_size=12, blocks=4)


def make(name):
    torch.manual_seed(0)
    return BACKBONES[name](NETWORK, (3, 5)).double().eval()


@pytest.mark.parametrize("name", BACKBONES)
def test_gives_tokens(name):
    assert make(name)(torch.randn(7, 12, dtype=torch.float64)).shape == (7, 3, 5)


def randomise(parameters):
    with torch.no_grad():
        for parameter in parameters:
            parameter.normal_()


def test_released_channel_mixing_never_reaches_the_output():
    backbone, x = make("released_mixer"), torch.randn(7, 12, dtype=torch.float64)
    before = backbone(x)
    randomise(backbone.channel_blocks.parameters())
    assert torch.equal(backbone(x), before)


def test_residual_blocks_do_reach_the_output():
    backbone, x = make("residual_mlp"), torch.randn(7, 12, dtype=torch.float64)
    before = backbone(x)
    randomise(backbone.blocks.parameters())
    assert not torch.allclose(backbone(x), before)


@pytest.mark.parametrize(("name", "affine"), [("released_mixer", True), ("residual_mlp", False)])
def test_only_the_released_mixer_is_affine(name, affine):
    backbone = make(name)
    x, y = torch.randn(2, 7, 12, dtype=torch.float64)
    middle = backbone(0.3 * x + 0.7 * y)
    mixed = 0.3 * backbone(x) + 0.7 * backbone(y)
    assert torch.allclose(middle, mixed, atol=1e-10) == affine
