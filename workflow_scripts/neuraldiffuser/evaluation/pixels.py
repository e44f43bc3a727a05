"""Metrics of pixels: PixCorr, SSIM in two conventions, and agreement between repeats.

Images are float32, as in the peers' code; sums over pixels are float64.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from neuraldiffuser import runtime
from neuraldiffuser.errors import ConfigError
from neuraldiffuser.evaluation.consistency import repeat_consistency
from neuraldiffuser.evaluation.correlation import correlate_all
from neuraldiffuser.evaluation.metrics import detailed
from neuraldiffuser.features.images import resize, to_unit_range
from neuraldiffuser.features.pipeline import kernels_that_repeat, map_ahead

GREY = (0.2125, 0.7154, 0.0721)  # luminance weights of scikit-image's rgb2gray
SIGMA = 1.5  # pixels; Wang et al. (2004), as the peers call scikit-image
RADIUS = 5  # pixels: the window is cut at 3.5 sigma
STABILISERS = (0.01**2, 0.03**2)  # (K1 L)^2 and (K2 L)^2 for values within L = 1
IMAGES_AT_ONCE = 1  # with its repeats: more do not fit into the caches of a CPU


@dataclass(frozen=True)
class Pairs:
    """Stimuli beside their reconstructions, and what several metrics read of them, computed once.

    Attributes:
        stimuli: (n, 1, 3, h, w) in [0, 1].
        reconstructions: (n, repeats, 3, h, w).
    """

    stimuli: Tensor
    reconstructions: Tensor

    @cached_property
    def correlations(self) -> Tensor:
        """Pearson r over all pixels and colours, stimulus first: (n, 1 + repeats, 1 + repeats)."""
        return correlate_all(torch.cat([self.stimuli, self.reconstructions], dim=1).flatten(2))

    @cached_property
    def moments(self) -> list[Tensor]:
        """Image by image, what SSIM blurs down the columns: x, y, x^2 + y^2 and x y of grey images.

        (1, 1 + 3 repeats, h - 10, w), where x is the stimulus and y a reconstruction.
        """
        pairs = zip(to_grey(self.stimuli), to_grey(self.reconstructions), strict=True)
        planes = (torch.cat([x, y, x * x + y * y, x * y])[None] for x, y in pairs)
        return [_blur(_refuse_small(image), _WINDOW[:, None]) for image in planes]


def pixel_correlation(pairs: Pairs) -> Tensor:
    """PixCorr: Pearson r over all pixels and colours; 0 where an image is of one grey value.

    Returns:
        (n, repeats) float64.
    """
    return pairs.correlations[:, 0, 1:]


def ssim_2d(pairs: Pairs) -> Tensor:
    """Mean structural similarity of the grey images under a Gaussian window.

    Equals ``skimage.metrics.structural_similarity(gaussian_weights=True, sigma=1.5,
    use_sample_covariance=False, data_range=1)`` on ``rgb2gray`` images (scikit-image >= 0.20).
    (n, repeats) float64.
    """
    blurred = (_blur(planes, _WINDOW[None, :]) for planes in pairs.moments)
    return torch.stack([_mean_similarity(planes) for planes in blurred])


def ssim_columns(pairs: Pairs) -> Tensor:
    """SSIM with every column of the grey image as a channel of its own.

    What scikit-image up to 0.19 computed for ``multichannel=True`` and grey images, the call in
    Brain-Diffuser's and MindEye's code: the window is one-dimensional.
    """
    return torch.stack([_mean_similarity(planes) for planes in pairs.moments])


PIXELS: dict[str, Callable[[Pairs], Tensor]] = {
    "pixcorr": pixel_correlation,
    detailed("ssim", "2d"): ssim_2d,
    detailed("ssim", "columns"): ssim_columns,
}


def _make_window() -> Tensor:
    offsets = torch.arange(-RADIUS, RADIUS + 1, dtype=torch.float64)
    weights = torch.exp(-0.5 * (offsets / SIGMA) ** 2)
    return (weights / weights.sum()).float()


_WINDOW = _make_window()


def _mean_similarity(moments: Tensor) -> Tensor:
    """The mean similarity index over all windows, (repeats,) float64, of blurred ``moments``."""
    repeats = moments.shape[1] // 3
    planes = moments[0].contiguous()  # arithmetic is fastest plane by plane, blurring all at once
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


def _blur(planes: Tensor, window: Tensor) -> Tensor:
    """Gaussian means of planes (1, k, h, w), windows inside the image only."""
    number = planes.shape[1]
    weights = window.to(planes.device).expand(number, 1, *window.shape).contiguous()
    return F.conv2d(planes.contiguous(memory_format=torch.channels_last), weights, groups=number)


def _refuse_small(planes: Tensor) -> Tensor:
    """The planes, if the window of SSIM fits into them."""
    smallest = min(planes.shape[-2:])
    if smallest < len(_WINDOW):
        raise ConfigError(
            f"SSIM needs images of {len(_WINDOW)} pixels a side, but they have {smallest}; "
            "raise evaluation.image_size."
        )
    return planes


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
        images = stimuli[rows, None], reconstructions[rows]
        return _measure_batch(Pairs(*(_prepare(part, sizes) for part in images)))

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


def _measure_batch(pairs: Pairs) -> dict[str, np.ndarray]:
    values = {name: metric(pairs) for name, metric in PIXELS.items()}
    if pairs.reconstructions.shape[1] > 1:
        values["consistency"] = repeat_consistency(pairs.correlations[:, 1:, 1:])
    return {name: value.cpu().numpy() for name, value in values.items()}
