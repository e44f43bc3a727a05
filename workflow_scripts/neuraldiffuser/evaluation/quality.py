"""Qualities of a whole set of images: Frechet and kernel distance, and Inception Score.

Frechet distance and Inception Score, by torchmetrics, are biased for few images: the Frechet
distance upwards (and with fewer images than features its covariance is of deficient rank), the
Inception Score downwards. The kernel distance has no bias, so it serves few images too.
"""

import warnings

import neuraldiffuser.torchvision_schemas  # noqa: F401  before torchmetrics

import numpy as np
import torch
from torch import Tensor, nn

from neuraldiffuser.errors import DataError

FEWEST = 3  # images that have a kernel distance
FEWEST_OF_HALVES = 4  # images whose halves have covariances
HALVINGS = 5  # of the stimuli, to tell the bias of the Frechet distance
SPLITS = 10  # of the images, as in Salimans et al. (2016)


class _Features(nn.Identity):
    """Features that were computed before, handed to torchmetrics as if they were images."""

    def __init__(self, num_features: int):
        super().__init__()
        self.num_features = num_features


def frechet_distance(stimuli: Tensor, reconstructions: Tensor) -> float:
    """Frechet distance of two sets of features (n, d) and (m, d); lower is better (FID).

    Heusel et al. (2017): |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)).
    """
    from torchmetrics.image.fid import FrechetInceptionDistance

    metric = FrechetInceptionDistance(feature=_Features(stimuli.shape[1]))
    metric.update(stimuli.double().cpu(), real=True)
    metric.update(reconstructions.double().cpu(), real=False)
    return float(metric.compute())


def inception_score(stimuli: Tensor, reconstructions: Tensor) -> float:
    """Inception Score of logits (n, classes), mean over ten splits; higher is better.

    Salimans et al. (2016): exp(mean KL(p(class | image) || p(class))). The order in which images
    enter the splits is random but fixed.

    Args:
        stimuli: their logits, which the score does not use.
        reconstructions: logits of the images whose quality is asked for.
    """
    from torchmetrics.image.inception import InceptionScore

    del stimuli
    if len(reconstructions) < SPLITS:
        raise DataError(
            f"the Inception Score divides the images into {SPLITS} parts, but there are only "
            f"{len(reconstructions)}; raise minimum_images of this judge."
        )
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")  # it announces that it keeps all features
        metric = InceptionScore(feature=_Features(reconstructions.shape[1]), splits=SPLITS)
        metric.update(reconstructions.double().cpu())
        torch.manual_seed(0)
        return float(metric.compute()[0])


def kernel_distance(stimuli: Tensor, reconstructions: Tensor) -> Tensor:
    """Each image's value in the squared kernel distance of two sets of features; lower is better.

    The squared maximum mean discrepancy of Gretton et al. (2012, Lemma 6 with pairs, Eq. 4) under
    the kernel of Binkowski et al. (2018, KID): the mean over i != j of

        k(x_i, x_j) + k(y_i, y_j) - k(x_i, y_j) - k(x_j, y_i),    k(a, b) = (a b / d + 1)^3.

    It has no bias and may be negative. No stimulus meets its own reconstruction, with which it is
    no random pair. The values are those of the jackknife: they average exactly to the distance,
    and resampling them gives its interval over images.

    Args:
        stimuli, reconstructions: (n, d), row by row of the same images.

    Returns:
        (n,) float64.

    Raises:
        DataError: fewer than three images.
    """
    number = len(stimuli)
    _require_images("a kernel distance", FEWEST, number)
    across = _kernel(stimuli, reconstructions)
    pairs = _kernel(stimuli, stimuli) + _kernel(reconstructions, reconstructions)
    pairs = (pairs - across - across.T).fill_diagonal_(0)
    means = pairs.sum(dim=1) / (number - 1)
    return (2 * (number - 1) * means - number * means.mean()) / (number - 2)


def _require_images(what: str, needed: int, number: int) -> None:
    if number < needed:
        raise DataError(
            f"{what} needs {needed} images, but there are only {number}; raise minimum_images of "
            "this judge."
        )


def _kernel(first: Tensor, second: Tensor) -> Tensor:
    """Polynomial kernel of every row with every row: (n, d) and (m, d) to (n, m) float64."""
    return (first.double() @ second.double().T / first.shape[1] + 1) ** 3


QUALITY = {
    "frechet_distance": frechet_distance,
    "inception_score": inception_score,
    "kernel_distance": kernel_distance,
}


def describe_frechet_bias(stimuli: Tensor) -> str:
    """How far the Frechet distance of so few images is from that of all, in words and numbers.

    Raises:
        DataError: fewer than four images, whose halves have no covariance.
    """
    number, features = stimuli.shape
    _require_images("the bias of a Frechet distance", FEWEST_OF_HALVES, number)
    halves = np.mean([_distance_of_halves(stimuli, seed) for seed in range(HALVINGS)])
    rank = f"; rank at most {number - 1} of {features}" if number <= features else ""
    return (
        f"biased upwards by the finite sample of {number} images: two random halves of the stimuli "
        f"are {halves:.3g} apart{rank}; mean over repeats"
    )


def _distance_of_halves(rows: Tensor, seed: int) -> float:
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed)).to(rows.device)
    half = len(rows) // 2
    return frechet_distance(rows[order[:half]], rows[order[half : 2 * half]])


def describe_inception_bias(stimuli: Tensor) -> str:
    """The bias of the Inception Score, in words, beside the score of the stimuli themselves."""
    return (
        f"biased downwards by the finite sample of {len(stimuli)} images in {SPLITS} splits: the "
        f"stimuli themselves reach {inception_score(stimuli, stimuli):.3g}; mean over repeats"
    )


# What has to be said of the values that a whole set has, given the features of the stimuli.
NOTES = {
    "frechet_distance": describe_frechet_bias,
    "inception_score": describe_inception_bias,
}
