"""Networks that judge images: named nodes of pretrained networks, all read in one pass.

Node names are those of ``named_modules``. Weights come from local files alone, either safetensors
or what torch loads with ``weights_only``.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from zipfile import is_zipfile

import neuraldiffuser.torchvision_schemas  # noqa: F401  before anything imports torchvision

import torch
from torch import nn

from neuraldiffuser import storage
from neuraldiffuser.config.models import NetworkSettings
from neuraldiffuser.errors import ConfigError, DataError
from neuraldiffuser.features import images as preprocessing
from neuraldiffuser.features.clip_image import load_visual

OUTPUT = "output"


def build_alexnet(weights: Path, _size: int) -> nn.Module:
    """torchvision's AlexNet."""
    from torchvision.models import alexnet

    return with_weights(alexnet(weights=None), read_weights(weights))


def build_inception(weights: Path, _size: int) -> nn.Module:
    """torchvision's Inception v3, which maps ImageNet's normalisation to its own range itself."""
    from torchvision.models import inception_v3

    network = inception_v3(weights=None, aux_logits=True, transform_input=True, init_weights=False)
    return with_weights(network, read_weights(weights))


def build_efficientnet(weights: Path, _size: int) -> nn.Module:
    """torchvision's EfficientNet-B1."""
    from torchvision.models import efficientnet_b1

    return with_weights(efficientnet_b1(weights=None), read_weights(weights))


def build_swav(weights: Path, _size: int) -> nn.Module:
    """The ResNet-50 of facebookresearch/swav (hubconf.py), without its projection head."""
    from torchvision.models import resnet50

    network = resnet50(weights=None)
    network.fc = nn.Identity()
    stored = {
        name.removeprefix("module."): tensor for name, tensor in read_weights(weights).items()
    }
    heads = ("projection_head", "prototypes")
    return with_weights(
        network, {name: tensor for name, tensor in stored.items() if not name.startswith(heads)}
    )


class FidInception(nn.Module):
    """The network of the Frechet Inception Distance and the Inception Score, by torch-fidelity.

    TensorFlow's Inception of 2015 with 1008 classes, which resizes images to 299 pixels itself, as
    TensorFlow 1 did. Its nodes are torch-fidelity's names of features.
    """

    NODES = ("2048", "logits_unbiased")

    def __init__(self, weights: Path) -> None:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        super().__init__()
        read_weights(weights)  # the library would run what is not data
        try:
            self.network = FeatureExtractorInceptionV3(
                "inception-2015", list(self.NODES), feature_extractor_weights_path=str(weights)
            )
        except RuntimeError as error:
            raise _refuse(error, "FeatureExtractorInceptionV3") from error
        for node in self.NODES:
            self.add_module(node, nn.Identity())

    def forward(self, images: torch.Tensor) -> None:
        """Shows its nodes the features of images (n, 3, h, w) in [0, 1], rounded to 8 bits."""
        found = self.network((images * 255).round().to(torch.uint8))
        for node, features in zip(self.NODES, found, strict=True):
            self.get_submodule(node)(features)


def build_inception_fid(weights: Path, _size: None) -> nn.Module:
    """The network of the Frechet Inception Distance."""
    return FidInception(weights)


def build_lpips(weights: Path, _size: int) -> nn.Module:
    """What LPIPS sees, from the weights of torchvision's AlexNet."""
    from neuraldiffuser.features.perceptual import PerceptualFeatures

    return PerceptualFeatures(build_alexnet(weights, _size).state_dict())


def build_open_clip(weights: Path, _size: int) -> nn.Module:
    """The image tower of an open_clip folder."""
    return load_visual(weights)


def build_efficientnet_lite(weights: Path, size: int) -> nn.Module:
    """EfficientNet-Lite0 of the package efficientnet_lite_pytorch."""
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite0", image_size=size)
    return with_weights(network, read_weights(weights))


ARCHITECTURES: dict[str, Callable[[Path, int | None], nn.Module]] = {
    "alexnet": build_alexnet,
    "lpips": build_lpips,
    "inception_v3": build_inception,
    "inception_fid": build_inception_fid,
    "efficientnet_b1": build_efficientnet,
    "swav_resnet50": build_swav,
    "open_clip": build_open_clip,
    "efficientnet_lite0": build_efficientnet_lite,
}


def read_weights(path: Path) -> Mapping[str, torch.Tensor]:
    """Reads a state dict from safetensors or from what torch loads with ``weights_only``.

    Torch's files since 2020 are mapped, so that only tensors that are used take memory.

    Raises:
        DataError: the file is missing, broken, or holds anything but tensors.
    """
    if path.suffix == ".safetensors":
        return storage.read_tensors(path)[0]
    if not path.is_file():
        raise DataError(f"{path} is missing; fetch the weights.")
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zipfile(path))
    except Exception as error:
        raise DataError(
            f"{path} is truncated or holds more than tensors ({type(error).__name__}); "
            "fetch the weights again."
        ) from error


def with_weights(network: nn.Module, weights: Mapping[str, torch.Tensor]) -> nn.Module:
    """``network`` with ``weights`` loaded; every name and shape has to fit.

    Raises:
        DataError: the weights are another network's.
    """
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise _refuse(error, type(network).__name__) from error
    return network


def _refuse(error: RuntimeError, architecture: str) -> DataError:
    return DataError(
        f"The weights do not fit {architecture} "
        f"({str(error).splitlines()[1].strip()}); name the file of this architecture."
    )


class NetworkFeatures(nn.Module):
    """Images to the flattened activations of a network's named nodes, in one pass.

    Args:
        network: any module from images to something.
        nodes: name of your choice -> module name inside ``network``, or "output".
        size: images are resized to this many pixels a side; None: the network does it.
        normalisation: a key of ``images.MEANS_AND_DEVIATIONS``.
        antialias: whether shrinking filters before it samples.

    Raises:
        ConfigError: the network has no module of that name.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        nodes: Mapping[str, str],
        size: int | None,
        normalisation: str,
        antialias: bool,
    ) -> None:
        super().__init__()
        self.modules_by_name = {name: _find_node(network, node) for name, node in nodes.items()}
        self.network = network
        self.size = size
        self.normalisation = normalisation
        self.antialias = antialias

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """(n, 3, h, w) images in [0, 1] to {name: (n, d)}."""
        if self.size is not None:
            images = preprocessing.resize(images, self.size, antialias=self.antialias)
        with collect_outputs(self.modules_by_name) as outputs:
            normalised = preprocessing.normalise(images, self.normalisation)
            self.network(normalised.contiguous(memory_format=torch.channels_last))
        return outputs


def _find_node(network: nn.Module, node: str) -> tuple[nn.Module]:
    """The module in a tuple, so that torch does not register it a second time."""
    try:
        return (network.get_submodule("" if node == OUTPUT else node),)
    except AttributeError as error:
        raise ConfigError(
            f"{type(network).__name__} has no node {node}; name a module such as "
            f"{[name for name, _module in network.named_modules()][-1]}, or {OUTPUT}."
        ) from error


@contextmanager
def collect_outputs(modules: Mapping[str, tuple[nn.Module]]) -> Iterator[dict[str, torch.Tensor]]:
    """Collects what modules return while the context is open, flattened to (n, d)."""
    outputs: dict[str, torch.Tensor] = {}

    def keep(name: str) -> Callable:
        # A copy, because the module that follows may work in place.
        return lambda _module, _inputs, output: outputs.update({name: output.flatten(1).clone()})

    handles = [module.register_forward_hook(keep(name)) for name, (module,) in modules.items()]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def load_network(
    settings: NetworkSettings, *, loader: str, path_to_weights: Path | str, device: str = "cpu"
) -> NetworkFeatures:
    """Loads a frozen evaluation network.

    Args:
        settings: nodes and preprocessing.
        loader: a key of ``ARCHITECTURES``: the network, and how its file is read.
        path_to_weights: a file with a state dict or, for open_clip, the model's folder.
        device: torch device.

    Raises:
        ConfigError: the network has no such node.
        DataError: the weights are missing, broken or another network's.
    """
    network = NetworkFeatures(
        ARCHITECTURES[loader](Path(path_to_weights), settings.size),
        nodes=settings.nodes,
        size=settings.size,
        normalisation=settings.normalisation,
        antialias=settings.antialias,
    )
    placed = network.to(device=device, memory_format=torch.channels_last)
    return placed.eval().requires_grad_(False)
