import neuraldiffuser.torchvision_schemas  # noqa: F401

import numpy as np
import pytest
import torch
from torch.nn import functional

from neuraldiffuser.config.encoding import GnetSettings
from neuraldiffuser.encoding import gnet


def build(settings, voxels=5):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return gnet.Gnet(settings, voxels=voxels).eval()


def test_sizes_of_the_released_network():
    encoder = build(GnetSettings(), voxels=3)
    with torch.no_grad():
        maps = encoder.prefilter(torch.zeros(1, 3, 227, 227))
        fine, coarse = encoder.trunk(maps)
    assert maps.shape == (1, 192, 27, 27)
    assert fine.shape == (1, 256, 25, 25)
    assert coarse.shape == (1, 256, 13, 13)
    # The released multi-subject file: 625 + 169 field logits, 512 weights and a bias per voxel.
    assert sum(parameter.numel() for parameter in encoder.readout.parameters()) == 3 * 1307


def test_readout_equals_a_loop_over_voxels():
    rng = np.random.default_rng(0)
    maps = [torch.from_numpy(rng.standard_normal(shape)) for shape in [(2, 3, 4, 4), (2, 5, 2, 2)]]
    readout = gnet.Readout([(3, 4, 4), (5, 2, 2)], voxels=6).double()
    for parameter in readout.parameters():
        parameter.data = torch.from_numpy(rng.standard_normal(parameter.shape))

    def squash(x):
        return np.log(1 + np.abs(x)) * np.tanh(x)

    expected = np.zeros((2, 6))
    for voxel in range(6):
        pooled = []
        for group, field in zip(maps, readout.fields, strict=True):
            logits = np.exp(field[voxel].detach().numpy())
            rf = (logits / logits.sum()).reshape(group.shape[2:])
            pooled.append((squash(group.numpy()) * rf).sum(axis=(2, 3)))
        features = squash(np.concatenate(pooled, axis=1))
        weight = readout.weight[voxel].detach().numpy()
        expected[:, voxel] = features @ weight + readout.bias[voxel].item()
    np.testing.assert_allclose(readout(tuple(maps)).detach(), expected, atol=1e-12)


def test_prefilter_has_the_shape_of_alexnet():
    from torchvision.models import alexnet

    ours = [p.shape for p in gnet.Prefilter(GnetSettings()).parameters()]
    theirs = [p.shape for p in alexnet(weights=None).features[:4].parameters()]
    assert ours == theirs


def test_gradient_to_the_image_equals_finite_differences(settings):
    encoder = build(settings.network).double()
    rng = np.random.default_rng(1)
    image, direction = (torch.from_numpy(rng.random((1, 3, 40, 40))) for _ in range(2))
    tracked = image.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(encoder(tracked).square().sum(), tracked)
    step = 1e-6
    ahead, behind = (encoder(image + sign * step * direction) for sign in (1, -1))
    measured = (ahead.square().sum() - behind.square().sum()) / (2 * step)
    torch.testing.assert_close((gradient * direction).sum(), measured, rtol=1e-4, atol=0)


def draw_images(count, size):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(count, 3, size, size, generator=generator, dtype=torch.float64)


# An untrained encoder answers with tiny numbers: tolerances are relative.
CLOSE = {"rtol": 1e-6, "atol": 0}


def test_a_batch_equals_its_images_one_by_one(settings):
    encoder = build(settings.network).double()
    images = draw_images(4, 32)
    together = encoder(images)
    alone = torch.cat([encoder(image[None]) for image in images])
    torch.testing.assert_close(together, alone, **CLOSE)
    assert together.std(dim=0).min() > 1e-3 * together.abs().mean()


def test_images_are_centred_and_resized(settings):
    encoder = build(settings.network).double()
    image = draw_images(1, 64)
    before = encoder(image)
    small = functional.interpolate(image, size=32, mode="bilinear", antialias=True)
    torch.testing.assert_close(encoder(small), before, **CLOSE)
    encoder.input_mean.fill_(0.25)
    torch.testing.assert_close(encoder(image + 0.25), before, **CLOSE)
    assert ((encoder(image) - before) / before).abs().max() > 1e-3


@pytest.mark.parametrize(
    "change",
    [
        {"image_size": 40},
        {"prefilter_channels": (8, 14)},
        {"prefilter_channels": (10, 12)},
        {"first_kernel": 7},
        {"first_stride": 1},
        {"pass_width": 10},
        {"trunk_width": 5},
        {"unread_width": 3},
    ],
)
def test_every_size_changes_the_parameters(settings, change):
    first = build(settings.network)
    other = build(settings.network.model_copy(update=change))
    shapes = [[p.shape for p in network.parameters()] for network in (first, other)]
    assert shapes[0] != shapes[1]


def test_dropout_acts_in_training_alone(settings):
    dropping = build(settings.network.model_copy(update={"dropout": 0.5}))
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(dropping(images), build(settings.network)(images))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        dropping.train()
        assert (dropping(images) - dropping(images)).abs().max() > 1e-4
