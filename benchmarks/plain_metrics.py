"""The peers' way to measure reconstructions, written plainly: one metric and one repeat at a time.

What MindEyeV2's src/final_evaluations.ipynb does, after Brain-Diffuser: a script measures one set
of reconstructions, so five repeats are five runs, and each of them prepares and embeds the stimuli
again. Every metric resizes by itself; a node of a network is read by a pass of its own.
"""

from itertools import combinations

import neuraldiffuser.torchvision_schemas  # noqa: F401  before everything that loads torchvision

import numpy as np
import torch
from scipy.spatial.distance import correlation
from skimage.color import rgb2gray
from skimage.metrics import structural_similarity
from torch import Tensor, nn
from torchvision.transforms import functional as transforms

WINDOW = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}


def prepare(images: np.ndarray, size: int, device: str = "cpu") -> Tensor:
    """uint8 (n, h, w, 3) to (n, 3, size, size) in [0, 1]."""
    tensor = torch.from_numpy(images).to(device).permute(0, 3, 1, 2).float() / 255
    return resize(tensor, size)


def resize(images: Tensor, size: int) -> Tensor:
    """As ``transforms.Resize`` of today's torchvision."""
    return transforms.resize(images, [size, size], antialias=True)


def pixel_correlation(stimuli: Tensor, reconstructions: Tensor, *, size: int) -> np.ndarray:
    """``np.corrcoef`` of the flattened pixels, image by image."""
    first, second = (
        resize(images, size).reshape(len(images), -1).numpy()
        for images in (stimuli, reconstructions)
    )
    return np.array([np.corrcoef(a, b)[0, 1] for a, b in zip(first, second, strict=True)])


def structure(stimuli: Tensor, reconstructions: Tensor, *, size: int) -> np.ndarray:
    """scikit-image's SSIM of grey images, image by image."""
    first, second = (
        rgb2gray(resize(images, size).permute(0, 2, 3, 1).numpy())
        for images in (stimuli, reconstructions)
    )
    return np.array(
        [structural_similarity(b, a, **WINDOW) for a, b in zip(first, second, strict=True)]
    )


def structure_of_columns(stimuli: Tensor, reconstructions: Tensor, *, size: int) -> np.ndarray:
    """The same call with every column as a channel, as old scikit-image understood it."""
    first, second = (
        rgb2gray(resize(images, size).permute(0, 2, 3, 1).numpy())
        for images in (stimuli, reconstructions)
    )
    return np.array(
        [
            structural_similarity(b, a, **WINDOW, channel_axis=1)
            for a, b in zip(first, second, strict=True)
        ]
    )


def consistency(repeats: Tensor, *, size: int) -> np.ndarray:
    """Mean ``np.corrcoef`` over pairs of repeats (repeats, n, 3, h, w), pair by pair: (n,)."""
    flat = np.stack([resize(images, size).reshape(len(images), -1).numpy() for images in repeats])
    pairs = list(combinations(range(len(flat)), 2))
    return np.array(
        [
            np.mean([np.corrcoef(image[i], image[j])[0, 1] for i, j in pairs])
            for image in flat.swapaxes(0, 1)
        ]
    )


def identify_by_rows(stimuli: np.ndarray, repeats: np.ndarray, rows: int) -> np.ndarray:
    """Takagi's identification of the first stimuli (n, d) by repeats (repeats, n, d): (rows,).

    One ``np.corrcoef`` for each stimulus and image, then a loop over the other images.
    """
    shares = []
    for row in range(rows):
        found = [np.corrcoef(stimuli[row], image)[0, 1:] for image in repeats.swapaxes(0, 1)]
        others = [found[column] for column in range(len(found)) if column != row]
        shares.append(np.mean([found[row].mean() > other.mean() for other in others]))
    return np.array(shares)


def identify(stimuli: np.ndarray, reconstructions: np.ndarray) -> np.ndarray:
    """``two_way_identification`` of features (n, d): the share of each reconstruction, (n,)."""
    number = len(stimuli)
    correlations = np.corrcoef(stimuli, reconstructions)[:number, number:]
    success = correlations < np.diag(correlations)
    return success.sum(axis=0) / (number - 1)


def distance(stimuli: np.ndarray, reconstructions: np.ndarray) -> np.ndarray:
    """scipy's correlation distance of features (n, d), image by image."""
    pairs = zip(stimuli, reconstructions, strict=True)
    return np.array([correlation(a, b) for a, b in pairs])


@torch.no_grad()
def embed(
    network: nn.Module,
    node: str,
    images: Tensor,
    *,
    size: int,
    mean: tuple[float, ...],
    deviation: tuple[float, ...],
) -> np.ndarray:
    """Features (n, d) of one node, read by a hook; "" is what the network returns."""
    seen: list[Tensor] = []
    handle = network.get_submodule(node).register_forward_hook(
        lambda _module, _inputs, output: seen.append(output.flatten(1).clone())
    )
    network(transforms.normalize(resize(images, size), mean, deviation))
    handle.remove()
    return seen[0].cpu().numpy()
