"""GNet: a small convolutional network whose feature maps voxels pool over receptive fields.

The structure follows the public description of GNet (styvesg/nsd, src/torch_gnet.py and
src/torch_mpf.py; the multi-subject weights of MindEye2), built here in torch and differentiable
from the image to the voxel.
"""

import torch
from torch import nn

from neuraldiffuser.config.encoding import GnetSettings
from neuraldiffuser.features import images as preprocessing


class Prefilter(nn.Module):
    """AlexNet's first two convolutions: (n, 3, h, w) to (n, second, h', w')."""

    def __init__(self, settings: GnetSettings) -> None:
        super().__init__()
        first, second = settings.prefilter_channels
        kernel, stride = settings.first_kernel, settings.first_stride
        # AlexNet pads 11-pixel filters with 2 pixels when it steps by 4.
        padding = kernel // 2 if stride < 4 else 2
        self.layers = nn.Sequential(
            nn.Conv2d(3, first, kernel, stride=stride, padding=padding),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2),
            nn.Conv2d(first, second, 5, padding=2),
            nn.ReLU(),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Feature maps of centred images."""
        return self.layers(images)


class TrunkBlock(nn.Sequential):
    """Normalise, drop channels, convolve, rectify; keeps the maps' size."""

    def __init__(self, channels: int, width: int, *, dropout: float) -> None:
        super().__init__(
            nn.BatchNorm2d(channels, momentum=0.25),
            nn.Dropout2d(dropout),
            nn.Conv2d(channels, width, 3, padding=1),
            nn.ReLU(),
        )


class Trunk(nn.Module):
    """Prefilter maps to two groups of maps, fine and coarse, that voxels read."""

    def __init__(self, settings: GnetSettings) -> None:
        super().__init__()
        passed, dropout = settings.pass_width, settings.dropout
        channels = settings.prefilter_channels[1]
        self.read = settings.trunk_width
        width = self.read + settings.unread_width
        self.enter = nn.Sequential(
            nn.BatchNorm2d(channels, momentum=0.25),
            nn.Dropout2d(dropout),
            nn.Conv2d(channels, passed, 3),
            nn.ReLU(),
        )
        self.fine = nn.ModuleList(
            [TrunkBlock(passed, width, dropout=dropout), TrunkBlock(width, width, dropout=dropout)]
        )
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        widths = (width, width, width, self.read)
        self.coarse = nn.ModuleList([TrunkBlock(width, w, dropout=dropout) for w in widths])

    def forward(self, maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(n, channels, h, w) to (n, pass + 2 width, h-2, w-2) and (n, 4 width, h', w')."""
        fine = [self.enter(maps)]
        for block in self.fine:
            fine.append(block(fine[-1]))
        coarse = [self.pool(fine[-1])]
        for block in self.coarse:
            coarse.append(block(coarse[-1]))
        return (
            torch.cat([fine[0], *self._choose_read(fine[1:])], dim=1),
            torch.cat(self._choose_read(coarse[1:]), dim=1),
        )

    def _choose_read(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        """The channels of each block that voxels read; the others serve the next block alone."""
        return [block[:, : self.read] for block in maps]


def compress(values: torch.Tensor) -> torch.Tensor:
    """log(1 + |x|) tanh(x): GNet's nonlinearity before and after pooling."""
    return torch.log1p(values.abs()) * torch.tanh(values)


class Readout(nn.Module):
    """Each voxel: a receptive field per group of maps, then a weighted sum of pooled features.

    Args:
        shapes: (channels, height, width) of each group of maps.
        voxels: number of voxels.
    """

    def __init__(self, shapes: list[tuple[int, int, int]], voxels: int) -> None:
        super().__init__()
        self.fields = nn.ParameterList(
            [nn.Parameter(torch.zeros(voxels, height * width)) for _, height, width in shapes]
        )
        self.channels = [shape[0] for shape in shapes]
        total = sum(self.channels)
        self.weight = nn.Parameter(torch.randn(voxels, total) / total**0.5)
        self.bias = nn.Parameter(torch.zeros(voxels))

    def forward(self, maps: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Groups of maps (n, channels, h, w) to responses (n, voxels)."""
        weights = self.weight.split(self.channels, dim=1)
        groups = zip(maps, self.fields, weights, strict=True)
        return sum(read_group(group, field, weight) for group, field, weight in groups) + self.bias


def read_group(maps: torch.Tensor, field: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """What one group of maps adds to each voxel's response.

    Args:
        maps: (n, channels, h, w).
        field: (voxels, h * w) logits of the receptive fields.
        weight: (voxels, channels).

    Returns:
        (n, voxels).
    """
    positions = compress(maps).flatten(2)  # (n, channels, h * w)
    # One two-dimensional product is far faster on CPUs than a batched one.
    pooled = positions.flatten(0, 1) @ field.softmax(dim=1).T  # (n * channels, voxels)
    features = compress(pooled).unflatten(0, positions.shape[:2])  # (n, channels, voxels)
    return (features * weight.T).sum(dim=1)


class Gnet(nn.Module):
    """Images to the responses of one subject's voxels.

    Args:
        settings: sizes.
        voxels: number of voxels.
    """

    def __init__(self, settings: GnetSettings, *, voxels: int) -> None:
        super().__init__()
        self.image_size = settings.image_size
        self.register_buffer("input_mean", torch.zeros(3, 1, 1))
        self.prefilter = Prefilter(settings)
        self.trunk = Trunk(settings)
        self.readout = Readout(self._map_shapes(), voxels)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(n, 3, h, w) images in [0, 1] to (n, voxels) normalised responses."""
        resized = preprocessing.resize(images, self.image_size, antialias=True)
        return self.readout(self.trunk(self.prefilter(resized - self.input_mean)))

    @torch.no_grad()
    def _map_shapes(self) -> list[tuple[int, int, int]]:
        blank = torch.zeros(2, 3, self.image_size, self.image_size)
        self.trunk.eval()
        shapes = [tuple(maps.shape[1:]) for maps in self.trunk(self.prefilter(blank))]
        self.trunk.train()
        return shapes
