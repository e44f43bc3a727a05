"""VICRegL's ConvNeXt equals plain functions of its checkpoint's tensors, at every size of it."""

import math

import numpy as np
import public_vicregl
import pytest
import torch

from neuraldiffuser.config.models import ZOO
from neuraldiffuser.errors import DataError
from neuraldiffuser.features import vicregl

DEPTHS, WIDTHS, PROJECTED = (1, 2, 1, 1), (8, 12, 16, 24), (20, 18, 10)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A small full checkpoint: its path, and what is in it."""
    path = tmp_path_factory.mktemp("vicregl") / "small_fullckpt.pth"
    return path, public_vicregl.write(path, DEPTHS, WIDTHS, PROJECTED)


@pytest.fixture(scope="module")
def pictures():
    return torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))


def test_the_maps_are_those_of_plain_functions(checkpoint, pictures):
    path, weights = checkpoint
    maps = vicregl.load_local_features(path)(pictures)
    expected = public_vicregl.forward(weights, DEPTHS, pictures)
    assert maps.shape == (2, PROJECTED[-1], 2, 3)
    assert expected.std() > 0.01
    torch.testing.assert_close(maps.double(), expected, atol=1e-5, rtol=1e-4)


def test_every_tensor_that_is_kept_shapes_the_maps(checkpoint, pictures):
    path, weights = checkpoint
    network, changed = vicregl.load_local_features(path), vicregl.load_local_features(path)
    maps, generator = network(pictures), torch.Generator().manual_seed(2)
    for parameter, original in zip(changed.parameters(), network.parameters(), strict=True):
        parameter.mul_(torch.rand(parameter.shape, generator=generator))
        assert not torch.allclose(changed(pictures), maps, atol=1e-4)
        parameter.copy_(original)
    assert sum(len(part.flatten()) for part in network.parameters()) == sum(
        value.numel()
        for name, value in weights.items()
        if not name.startswith(("module.projector.", "module.classifier."))
    )


def test_the_network_is_frozen(checkpoint):
    network = vicregl.load_local_features(checkpoint[0])
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_the_released_deviation_has_its_slip(pictures):
    channels = vicregl.normalise(pictures)
    expected = (pictures.numpy()[:, 0] - 0.485) / 0.228
    np.testing.assert_allclose(channels.numpy()[:, 0], expected, rtol=1e-5)


# --- the published size --------------------------------------------------------------------------

XL = {"depths": (3, 3, 27, 3), "widths": (256, 512, 1024, 2048), "projected": (512, 512, 512)}


def test_the_largest_network_has_the_published_tensors():
    with torch.device("meta"):
        network = vicregl.LocalFeatures(*XL.values())
    published = public_vicregl.shapes(**XL)
    kept = {
        vicregl.rename(name.removeprefix("module.")): shape
        for name, shape in published.items()
        if not name.startswith(("module.projector.", "module.classifier."))
    }
    assert {name: tuple(value.shape) for name, value in network.state_dict().items()} == kept
    assert len(kept) == 315
    assert sum(value.numel() for value in network.parameters()) == 348_111_872 + 1_575_936


def test_the_published_bytes_leave_room_for_this_layout_and_none_for_layer_scale():
    numbers = sum(math.prod(shape) for shape in public_vicregl.shapes(**XL).values())
    layer_scale = sum(
        depth * width for depth, width in zip(XL["depths"], XL["widths"], strict=True)
    )
    (pin,) = ZOO["vicregl-convnext-xl"].files.values()
    # Weights and AdamW's two moments, in single precision; the rest is names and padding.
    rest = pin.size - 12 * numbers
    assert rest == 340_329
    assert rest - 12 * layer_scale < 0


def test_the_largest_network_makes_a_vector_of_every_32_pixels():
    with torch.device("meta"):
        network = vicregl.LocalFeatures(*XL.values())
        assert network(torch.empty(1, 3, 512, 512)).shape == (1, 512, 16, 16)


# --- what is refused -----------------------------------------------------------------------------


def refusal(path):
    with pytest.raises(DataError) as error:
        vicregl.load_local_features(path)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_other_files_are_refused(checkpoint, tmp_path):
    path = tmp_path / "other.pth"
    assert refusal(path) == f"{path} is missing; fetch the weights."
    path.write_bytes(checkpoint[0].read_bytes()[:-100])
    assert f"{path} is truncated or holds more than tensors" in refusal(path)
    torch.save({"model": np.random.default_rng}, path)
    assert f"{path} is truncated or holds more than tensors" in refusal(path)


def test_a_checkpoint_without_what_is_needed_is_refused(checkpoint, tmp_path):
    path, weights = tmp_path / "other.pth", checkpoint[1]
    torch.save(public_vicregl.backbone_alone(weights), path)
    assert refusal(path) == (
        f"{path} holds no full checkpoint of VICRegL; name its *_fullckpt.pth."
    )
    torch.save({"model": {"module.backbone.layer1.0.conv1.weight": torch.zeros(1)}}, path)
    assert refusal(path) == (
        f"{path} has no backbone.stages.0.blocks.0.norm.weight, so it is no ConvNeXt of VICRegL "
        "with its projector of maps; name the *_fullckpt.pth of one."
    )
    lacking = dict(weights)
    del lacking["module.backbone.stages.1.1.pwconv1.bias"]
    torch.save({"model": lacking}, path)
    assert "do not fit LocalFeatures (Missing key(s) in state_dict: " in refusal(path)
    scaled = weights | {"module.backbone.stages.0.0.gamma": torch.ones(8)}
    torch.save({"model": scaled}, path)
    assert "(Unexpected key(s) in state_dict: " in refusal(path)
