"""VICRegL's ConvNeXt: one vector for every 32 x 32 pixels of an image, from its full checkpoint.

The layers are timm's, under other names. Sources: facebookresearch/VICRegL (convnext.py,
main_vicregl.py, utils.py) for names and layers; MedARC-AI/fMRI-reconstruction-NSD (src/convnext.py,
src/train_autoencoder.py) for which vectors are used: the last maps, normalised, through the maps
projector.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import neuraldiffuser.torchvision_schemas  # noqa: F401  before timm

import torch
from torch import nn

from neuraldiffuser.errors import DataError
from neuraldiffuser.features.networks import read_weights, with_weights

STRIDE = 32
MEAN = (0.485, 0.456, 0.406)
DEVIATION = (0.228, 0.224, 0.225)  # as the released code has it; ImageNet's first is 0.229

# Layers of the checkpoint by what timm calls them, in the order in which they are looked for.
NAMES = (
    (r"^backbone\.stages\.(\d)\.(\d+)\.", r"backbone.stages.\1.blocks.\2."),
    (r"^backbone\.downsample_layers\.0\.", "backbone.stem."),
    (r"^backbone\.downsample_layers\.(\d)\.", r"backbone.stages.\1.downsample."),
    (r"^backbone\.norm\.", "backbone.norm_pre."),
    (r"\.dwconv\.", ".conv_dw."),
    (r"\.pwconv(\d)\.", r".mlp.fc\1."),
)


class LocalFeatures(nn.Module):
    """ConvNeXt without layer scale, and VICRegL's projector of its last maps.

    Args:
        depths: blocks of each of the four stages.
        widths: channels of each stage.
        projected: outputs of the projector's three linear layers.
    """

    def __init__(
        self, depths: tuple[int, ...], widths: tuple[int, ...], projected: tuple[int, ...]
    ) -> None:
        from timm.models.convnext import ConvNeXt

        super().__init__()
        self.backbone = ConvNeXt(
            depths=depths, dims=widths, num_classes=0, ls_init_value=None, head_norm_first=True
        )
        first, second, last = projected
        self.maps_projector = nn.Sequential(
            nn.Linear(widths[-1], first),
            nn.LayerNorm(first),
            nn.ReLU(),
            nn.Linear(first, second),
            nn.LayerNorm(second),
            nn.ReLU(),
            nn.Linear(second, last, bias=False),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images (n, 3, h, w) in [0, 1] to maps (n, channels, h / 32, w / 32)."""
        maps = self.backbone.forward_features(normalise(images))
        return self.maps_projector(maps.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def normalise(images: torch.Tensor) -> torch.Tensor:
    """(n, 3, h, w) in [0, 1] minus the channels' means, over their deviations."""
    channels = zip(images.unbind(1), MEAN, DEVIATION, strict=True)
    return torch.stack([(channel - mean) / deviation for channel, mean, deviation in channels], 1)


def load_local_features(path: Path, *, device: str = "cpu") -> LocalFeatures:
    """Loads the frozen network of a full checkpoint, of any of VICRegL's ConvNeXts.

    Raises:
        DataError: the file is missing, damaged, or no full checkpoint of a ConvNeXt.
    """
    weights = read_local_weights(path)
    with torch.device("meta"):  # no time for random numbers that the weights replace
        network = LocalFeatures(*measure_layers(weights, path))
    network = with_weights(network.to_empty(device=device), weights)
    return network.to(memory_format=torch.channels_last).eval().requires_grad_(False)


def read_local_weights(path: Path) -> dict[str, torch.Tensor]:
    """Weights of the backbone and of the projector of maps, under timm's names.

    Left behind are the expander of whole images, the online classifier and the optimiser.

    Raises:
        DataError: the file is missing or damaged, or holds no model.
    """
    checkpoint = read_weights(path)
    if not isinstance(checkpoint.get("model"), Mapping):
        raise DataError(f"{path} holds no full checkpoint of VICRegL; name its *_fullckpt.pth.")
    named = {name.removeprefix("module."): value for name, value in checkpoint["model"].items()}
    parts = ("backbone.", "maps_projector.")
    return {rename(name): value for name, value in named.items() if name.startswith(parts)}


def rename(name: str) -> str:
    """A layer of the checkpoint by timm's name."""
    for pattern, replacement in NAMES:
        name = re.sub(pattern, replacement, name)
    return name


def measure_layers(
    weights: Mapping[str, torch.Tensor], path: Path
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Depths and widths of the stages, and widths of the projector, that ``weights`` have.

    Raises:
        DataError: they are no ConvNeXt's with a projector of maps.
    """
    stages = [f"backbone.stages.{number}.blocks." for number in range(4)]
    try:
        widths = tuple(len(weights[f"{stage}0.norm.weight"]) for stage in stages)
        projected = tuple(len(weights[f"maps_projector.{layer}.weight"]) for layer in (0, 3, 6))
    except KeyError as error:
        raise DataError(
            f"{path} has no {error.args[0]}, so it is no ConvNeXt of VICRegL with its projector "
            "of maps; name the *_fullckpt.pth of one."
        ) from error
    norms = [name for name in weights if name.endswith(".norm.weight")]  # one of each block
    depths = tuple(sum(name.startswith(stage) for name in norms) for stage in stages)
    return depths, widths, projected
