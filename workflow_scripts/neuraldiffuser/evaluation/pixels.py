"""Metrics of pixels: PixCorr, SSIM in two conventions, and agreement between repeats.

Images are float32, as in the peers' code; sums over pixels are float64.
"""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from neuraldiffuser import runtime
from neuraldiffuser.errors import ConfigError
from neuraldiffuser.evaluation.consistency import repeat_consistency
from neuraldiffuser.evaluation.correlation import correlate, standardise
from neuraldiffuser.evaluation.metrics import detailed
from neuraldiffuser.features.images import resize, to_unit_range
from neuraldiffuser.features.pipeline import kernels_that_repeat, map_ahead

GREY = (0.2125, 0.7154, 0.0721)  # luminance weights of scikit-image's rgb2gray
SIGMA = 1.5  # pixels; Wang et al. (2004), as the peers call scikit-image
RADIUS = 5  # pixels: the window is cut at 3.5 sigma
STABILISERS = (0.01**2, 0.03**2)  # (K1 L)^2 and (K2 L)^2 for values within L = 1
IMAGES_AT_ONCE = 2  # with their repeats: more do not fit into the caches of a CPU


def pixel_correlation(stimuli: Tensor, reconstructions: Tensor) -> Tensor:
    """PixCorr: Pearson r over all pixels and colours; 0 where an image is of one colour.

    Args:
        stimuli: (n, 1, 3, h, w).
        reconstructions: (n, repeats, 3, h, w).

    Returns:
        (n, repeats) float64.
    """
    rows = (standardise(images.flatten(2)) for images in (stimuli, reconstructions))
    return correlate(*rows).squeeze(1)


def ssim_2d(stimuli: Tensor, reconstructions: Tensor) -> Tensor:
    """Mean structural similarity of the grey images under a Gaussian window.

    Equals ``skimage.metrics.structural_similarity(gaussian_weights=True, sigma=1.5,
    use_sample_covariance=False, data_range=1)`` on ``rgb2gray`` images (scikit-image >= 0.20).
    Shapes as of ``pixel_correlation``.
    """
    return _mean_similarity(stimuli, reconstructions, [_WINDOW[:, None], _WINDOW[None, :]])


def ssim_columns(stimuli: Tensor, reconstructions: Tensor) -> Tensor:
    """SSIM with every column of the grey image as a channel of its own.

    What scikit-image up to 0.19 computed for ``multichannel=True`` and grey images, the call in
    Brain-Diffuser's and MindEye's code: the window is one-dimensional.
    """
    return _mean_similarity(stimuli, reconstructions, [_WINDOW[:, None]])


PIXELS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "pixcorr": pixel_correlation,
    detailed("ssim", "2d"): ssim_2d,
    detailed("ssim", "columns"): ssim_columns,
}


def _make_window() -> Tensor:
    offsets = torch.arange(-RADIUS, RADIUS + 1, dtype=torch.float64)
    weights = torch.exp(-0.5 * (offsets / SIGMA) ** 2)
    return (weights / weights.sum()).float()


_WINDOW = _make_window()


def _mean_similarity(stimuli: Tensor, reconstructions: Tensor, windows: list[Tensor]) -> Tensor:
    """The mean similarity index of all windows that lie inside the image: (n, repeats)."""
    x, y = to_grey(stimuli), to_grey(reconstructions)
    smallest = min(x.shape[-2:])
    if smallest < len(_WINDOW):
        raise ConfigError(
            f"SSIM needs images of {len(_WINDOW)} pixels a side, but they have {smallest}; "
            "raise evaluation.image_size."
        )
    pairs = zip(x, y, strict=True)
    return torch.stack([_mean_similarity_of_one(*pair, windows=windows) for pair in pairs])


def _mean_similarity_of_one(x: Tensor, y: Tensor, *, windows: list[Tensor]) -> Tensor:
    """The same for one grey image (1, h, w) and its reconstructions (repeats, h, w): (repeats,)."""
    repeats = len(y)
    planes = _blur(torch.cat([x, y, x * x + y * y, x * y]), windows)
    mean_x, mean_y, squares, products = planes.split([1, repeats, repeats, repeats])
    c1, c2 = STABILISERS
    means, energy = mean_x * mean_y, mean_x**2 + mean_y**2
    structure = (products - means).mul_(2).add_(c2).div_((squares - energy).add_(c2))
    luminance = means.mul_(2).add_(c1).div_(energy.add_(c1))
    return luminance.mul_(structure).mean(dim=(1, 2), dtype=torch.float64)


def to_grey(images: Tensor) -> Tensor:
    """Luminance (..., h, w) of RGB images (..., 3, h, w)."""
    red, green, blue = images.unbind(dim=-3)
    return (GREY[0] * red).add_(green, alpha=GREY[1]).add_(blue, alpha=GREY[2])


def _blur(planes: Tensor, windows: list[Tensor]) -> Tensor:
    """Gaussian means of planes (k, h, w), windows inside the image only."""
    blurred = planes[None].contiguous(memory_format=torch.channels_last)
    for window in windows:
        weights = window.to(planes.device).expand(len(planes), 1, *window.shape).contiguous()
        blurred = F.conv2d(blurred, weights, groups=len(planes))
    return blurred[0]


def measure_pixels(
    stimuli: np.ndarray,
    reconstructions: np.ndarray,
    *,
    sizes: tuple[int | None, int],
) -> dict[str, np.ndarray]:
    """Every metric of ``PIXELS`` for every repeat, and the consistency of each image's repeats.

    Args:
        stimuli: (n, h, w, 3) uint8.
        reconstructions: (n, repeats, h', w', 3) uint8, row by row of the same images.
        sizes: widths to which images are resized, the first for all metrics, the second for these.

    Returns:
        The metrics (n, repeats); consistency (n,) if there are two repeats or more.

    Raises:
        ConfigError: images are smaller than the window of SSIM.
    """
    batches = [slice(k, k + IMAGES_AT_ONCE) for k in range(0, len(stimuli), IMAGES_AT_ONCE)]

    @torch.inference_mode()
    def measure(rows: slice) -> dict[str, np.ndarray]:
        pair = _prepare(stimuli[rows, None], sizes), _prepare(reconstructions[rows], sizes)
        return _measure_batch(*pair)

    with kernels_that_repeat():
        measured = map_ahead(measure, batches, workers=runtime.execution().threads)
        parts = list(
            runtime.progress(
                measured, total=len(batches), description="comparing pixels", unit="batch"
            )
        )
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _prepare(images: np.ndarray, sizes: tuple[int | None, int]) -> Tensor:
    """(n, r, h, w, 3) uint8 to (n, r, 3, size, size) in [0, 1]."""
    tensor = to_unit_range(images.reshape(-1, *images.shape[2:])).to(runtime.execution().device)
    for size in filter(None, sizes):
        tensor = resize(tensor, size, antialias=True)
    return tensor.unflatten(0, images.shape[:2])


def _measure_batch(stimuli: Tensor, reconstructions: Tensor) -> dict[str, np.ndarray]:
    values = {name: metric(stimuli, reconstructions) for name, metric in PIXELS.items()}
    if reconstructions.shape[1] > 1:
        values["consistency"] = repeat_consistency(reconstructions.flatten(2))
    return {name: value.cpu().numpy() for name, value in values.items()}
