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


def mix_as_released(backbone, x):
    """The released forward pass in full, channel mixing included."""
    x = x[:, None]  # one token
    channel_residual, token_residual = x, x.transpose(1, 2)
    for mix_channels, mix_tokens in zip(
        backbone.channel_blocks, backbone.token_blocks, strict=True
    ):
        channel_residual = mix_channels(x) + channel_residual
        token_residual = mix_tokens(channel_residual.transpose(1, 2)) + token_residual
        x = token_residual.transpose(1, 2)
    return backbone.output(x.flatten(1)).unflatten(1, backbone.token_shape)


def test_channel_mixing_that_is_left_out_never_reached_the_output():
    backbone, x = make("released_mixer"), torch.randn(7, 12, dtype=torch.float64)
    assert sum(p.numel() for p in backbone.channel_blocks.parameters()) == 4 * 2 * (12**2 + 2 * 12)
    for _ in range(2):
        randomise(backbone.parameters())
        torch.testing.assert_close(backbone(x), mix_as_released(backbone, x))
        backbone.requires_grad_(True).zero_grad()
        mix_as_released(backbone, x).square().sum().backward()
        rounding = 1e-9 * backbone.output.weight.grad.abs().max()
        for weight in backbone.channel_blocks.parameters():
            assert weight.grad.abs().max() < rounding


def test_only_what_reaches_the_output_is_trained():
    backbone = make("released_mixer")
    frozen = {name for name, weight in backbone.named_parameters() if not weight.requires_grad}
    assert frozen == {
        f"channel_blocks.{name}" for name, _ in backbone.channel_blocks.named_parameters()
    }


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
