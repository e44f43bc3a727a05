"""Images as LPIPS sees them: the squared distance of two is their perceptual distance.

Zhang et al. (2018): the mean over places of sum_c w_c (x_c - y_c)^2 between activations of unit
length, summed over layers. No w is negative, so that sqrt(w) x embeds one image, once, whatever it
is compared with. Trunk, linear weights and normalisation are those of the library lpips, 0.1.
"""

import warnings
from collections.abc import Mapping

import neuraldiffuser.torchvision_schemas  # noqa: F401  before lpips imports torchvision

import lpips
import torch
from torch import Tensor, nn


class PerceptualFeatures(nn.Module):
    """Weighted activations of AlexNet, (n, 3, h, w) in [0, 1] to (n, d).

    Args:
        alexnet: state dict of torchvision's AlexNet, under its own names; the library brings the
            linear weights.
    """

    def __init__(self, alexnet: Mapping[str, Tensor]) -> None:
        super().__init__()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it calls torchvision by names of an older release
            library = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
        names = library.net.state_dict().keys()  # slice1.0.weight is features.0.weight
        library.net.load_state_dict(
            {name: alexnet[f"features.{name.partition('.')[2]}"] for name in names}
        )
        self.library = library

    def forward(self, images: Tensor) -> Tensor:
        """(n, d)."""
        maps = self.library.net(self.library.scaling_layer(2 * images - 1))
        layers = zip(maps, self.library.lins, strict=True)
        return torch.cat([_weigh(found, linear) for found, linear in layers], dim=1)


def _weigh(maps: Tensor, linear: nn.Module) -> Tensor:
    (weights,) = linear.parameters()  # (1, c, 1, 1)
    places = maps.shape[2] * maps.shape[3]
    return (lpips.normalize_tensor(maps) * (weights / places).sqrt()).flatten(1)
