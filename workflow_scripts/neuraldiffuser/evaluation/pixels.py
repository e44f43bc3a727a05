"""Metrics of pixels: PixCorr, SSIM in two conventions, and agreement between repeats."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from neuraldiffuser import runtime
from neuraldiffuser.evaluation.consistency import repeat_consistency
from neuraldiffuser.evaluation.correlation import paired_correlation
from neuraldiffuser.evaluation.metrics import detailed
from neuraldiffuser.features.images import resize, to_unit_range

GREY = (0.2125, 0.7154, 0.0721)  # luminance weights of scikit-image's rgb2gray
SIGMA = 1.5  # pixels; Wang et al. (2004), as the peers call scikit-image
RADIUS = 5  # pixels: the window is cut at 3.5 sigma
STABILISERS = (0.01**2, 0.03**2)  # (K1 L)^2 and (K2 L)^2 for values within L = 1
IMAGES_AT_ONCE = 16


def pixel_correlation(stimuli: Tensor, reconstructions: Tensor) -> Tensor:
    """PixCorr: Pearson r over all pixels and colours, image by image.

    Args:
        stimuli, reconstructions: (..., 3, h, w).

    Returns:
        (...,) float64; 0 where an image is of one colour.
    """
    return paired_correlation(stimuli.flatten(-3), reconstructions.flatten(-3))


def ssim_2d(stimuli: Tensor, reconstructions: Tensor) -> Tensor:
    """Mean structural similarity of the grey images under a Gaussian window, (n, 3, h, w) to (n,).

    Equals ``skimage.metrics.structural_similarity(gaussian_weights=True, sigma=1.5,
    use_sample_covariance=False, data_range=1)`` on ``rgb2gray`` images (scikit-image >= 0.20).
    """
    return _mean_similarity(stimuli, reconstructions, _blur_plane).mean(dim=(1, 2))


def ssim_columns(stimuli: Tensor, reconstructions: Tensor) -> Tensor:
    """SSIM with every column of the grey image as a channel of its own, (n, 3, h, w) to (n,).

    What scikit-image up to 0.19 computed for ``multichannel=True`` and grey images, the call in
    Brain-Diffuser's and MindEye's code: the window is one-dimensional.
    """
    return _mean_similarity(stimuli, reconstructions, _blur_down_columns).mean(dim=(1, 2))


SSIM: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"2d": ssim_2d, "columns": ssim_columns}


def _mean_similarity(
    stimuli: Tensor, reconstructions: Tensor, blur: Callable[[Tensor], Tensor]
) -> Tensor:
    """The similarity index at every window that lies inside the image: (n, h', w')."""
    x, y = to_grey(stimuli), to_grey(reconstructions)
    mean_x, mean_y, xx, yy, xy = blur(torch.stack([x, y, x * x, y * y, x * y]))
    variance_x, variance_y = xx - mean_x**2, yy - mean_y**2
    c1, c2 = STABILISERS
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * (xy - mean_x * mean_y) + c2) / (variance_x + variance_y + c2)
    return luminance * structure


def to_grey(images: Tensor) -> Tensor:
    """Luminance (n, h, w) float64 of RGB images (n, 3, h, w)."""
    weights = torch.tensor(GREY, dtype=torch.float64, device=images.device)
    return torch.einsum("nchw,c->nhw", images.double(), weights)


def _window(like: Tensor) -> Tensor:
    offsets = torch.arange(-RADIUS, RADIUS + 1, dtype=like.dtype, device=like.device)
    weights = torch.exp(-0.5 * (offsets / SIGMA) ** 2)
    return weights / weights.sum()


def _blur_down_columns(planes: Tensor) -> Tensor:
    """Gaussian means along the height, windows inside the image only: (k, n, h, w)."""
    window = _window(planes)[None, None, :, None]
    flat = planes.flatten(0, 1).unsqueeze(1)
    return F.conv2d(flat, window).squeeze(1).unflatten(0, planes.shape[:2])


def _blur_plane(planes: Tensor) -> Tensor:
    """Gaussian means along height and width, windows inside the image only."""
    return _blur_down_columns(_blur_down_columns(planes).mT).mT


def measure_pixels(
    stimuli: np.ndarray,
    reconstructions: np.ndarray,
    *,
    sizes: tuple[int | None, int],
) -> dict[str, np.ndarray]:
    """PixCorr and SSIM of every repeat, and the consistency of the repeats of every image.

    Args:
        stimuli: (n, h, w, 3) uint8.
        reconstructions: (n, repeats, h', w', 3) uint8, row by row of the same images.
        sizes: widths to which images are resized, the first for all metrics, the second for these.

    Returns:
        pixcorr and each ssim (n, repeats); consistency (n,) if there are two repeats or more.
    """
    parts = [
        _measure_batch(
            _prepare(stimuli[start : start + IMAGES_AT_ONCE, None], sizes),
            _prepare(reconstructions[start : start + IMAGES_AT_ONCE], sizes),
        )
        for start in runtime.progress(
            range(0, len(stimuli), IMAGES_AT_ONCE), description="comparing pixels", unit="batch"
        )
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _prepare(images: np.ndarray, sizes: tuple[int | None, int]) -> Tensor:
    """(n, r, h, w, 3) uint8 to (n, r, 3, size, size) in [0, 1]."""
    tensor = to_unit_range(images.reshape(-1, *images.shape[2:])).to(runtime.execution().device)
    for size in filter(None, sizes):
        tensor = resize(tensor, size, antialias=True)
    return tensor.unflatten(0, images.shape[:2])


def _measure_batch(stimuli: Tensor, reconstructions: Tensor) -> dict[str, np.ndarray]:
    repeats = reconstructions.shape[1]
    repeated = stimuli.expand_as(reconstructions).flatten(0, 1)
    values = {
        "pixcorr": pixel_correlation(stimuli, reconstructions),
    }
    for convention, similarity in SSIM.items():
        found = similarity(repeated, reconstructions.flatten(0, 1)).unflatten(0, (-1, repeats))
        values[detailed("ssim", convention)] = found
    if repeats > 1:
        values["consistency"] = repeat_consistency(reconstructions.flatten(2))
    return {name: value.cpu().numpy() for name, value in values.items()}
