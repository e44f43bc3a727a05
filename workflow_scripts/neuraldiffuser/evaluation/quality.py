"""Qualities of a whole set of images: Frechet distance and Inception Score, by torchmetrics.

Both are biased for few images: the Frechet distance upwards (and with fewer images than features
its covariance is of deficient rank), the Inception Score downwards.
"""

import warnings

import neuraldiffuser.torchvision_schemas  # noqa: F401  before torchmetrics

import torch
from torch import Tensor, nn

from neuraldiffuser.errors import DataError

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


QUALITY = {"frechet_distance": frechet_distance, "inception_score": inception_score}
