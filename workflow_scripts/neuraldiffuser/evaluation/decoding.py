"""How well embeddings are decoded (Fig. 5): Pearson r and R^2, each in three views.

``dimensions``: each dimension over images. ``samples_raw``: each image over the dimensions of its
embedding, as Takagi et al. score; the mean feature alone scores high here, because embeddings of
different images resemble one another. ``samples_centred``: the same after the mean feature of the
training images has been subtracted from both sides, so that it scores nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from neuraldiffuser.evaluation.correlation import column_correlation, paired_correlation


@dataclass(frozen=True)
class Accuracy:
    """One measure: values per dimension or per image, and one value per image."""

    values: Tensor  # (dimensions,) or (images,)
    by_image: Tensor  # (images,), with the same mean


def pearson_dimensions(decoded: Tensor, target: Tensor, mean: Tensor) -> Accuracy:  # noqa: ARG001
    """Pearson r of each dimension over images; 0 where a prediction never changes."""
    return Accuracy(*column_correlation(decoded, target))


def r2_dimensions(decoded: Tensor, target: Tensor, mean: Tensor) -> Accuracy:  # noqa: ARG001
    """R^2 of each dimension over images: 1 - sum (y - f)^2 / sum (y - mean y)^2; may be below 0.

    As in ``column_correlation``, an image's value is R^2 plus the image's influence on it.
    """
    decoded, target = decoded.double(), target.double()
    variance = (target - target.mean(dim=0)).square()  # (n, d)
    total = variance.mean(dim=0)
    error = (target - decoded).square() / total
    unexplained = error.mean(dim=0)  # (d,)
    by_image = 1 - error.mean(dim=1) + (unexplained * (variance / total - 1)).mean(dim=1)
    return Accuracy(1 - unexplained, by_image)


def pearson_samples(decoded: Tensor, target: Tensor) -> Accuracy:
    """Pearson r of each image over dimensions."""
    r = paired_correlation(decoded, target)
    return Accuracy(r, r)


def r2_samples(decoded: Tensor, target: Tensor) -> Accuracy:
    """R^2 of each image over dimensions."""
    decoded, target = decoded.double(), target.double()
    total = (target - target.mean(dim=1, keepdim=True)).square().sum(dim=1)
    r2 = 1 - (target - decoded).square().sum(dim=1) / total
    return Accuracy(r2, r2)


def raw(score: Callable[[Tensor, Tensor], Accuracy]) -> Callable[..., Accuracy]:
    """``score`` of embeddings as they are."""
    return lambda decoded, target, mean: score(decoded, target)  # noqa: ARG005


def centred(score: Callable[[Tensor, Tensor], Accuracy]) -> Callable[..., Accuracy]:
    """``score`` of what embeddings add to the mean feature."""
    return lambda decoded, target, mean: score(decoded - mean, target - mean)


MEASURES: dict[str, Callable[[Tensor, Tensor, Tensor], Accuracy]] = {
    "pearson_dimensions": pearson_dimensions,
    "r2_dimensions": r2_dimensions,
    "pearson_samples_raw": raw(pearson_samples),
    "r2_samples_raw": raw(r2_samples),
    "pearson_samples_centred": centred(pearson_samples),
    "r2_samples_centred": centred(r2_samples),
}


def measure_decoding(decoded: Tensor, target: Tensor, mean: Tensor) -> dict[str, Accuracy]:
    """Every measure of decoded embeddings.

    Dimensions that are the same in every target, such as CLIP's first text token, cannot be
    decoded well or badly: they are left out.

    Args:
        decoded, target: (n, ...) with equal shapes, row by row of the same images.
        mean: (...) mean target of the training images.
    """
    decoded, target = decoded.flatten(1), target.flatten(1)
    varies = target.amin(dim=0) < target.amax(dim=0)
    rows = decoded[:, varies], target[:, varies], mean.flatten()[varies]
    return {name: measure(*rows) for name, measure in MEASURES.items()}
