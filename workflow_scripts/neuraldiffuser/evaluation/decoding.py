"""How well embeddings are decoded (Fig. 5), beside a predictor that knows only the mean."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from neuraldiffuser.evaluation.correlation import column_correlation, paired_correlation


@dataclass(frozen=True)
class Accuracy:
    """One measure: values per dimension or per image, and each image's part of their mean."""

    values: Tensor  # (dimensions,) or (images,)
    by_image: Tensor  # (images,), with the same mean


def pearson_over_images(decoded: Tensor, target: Tensor) -> Accuracy:
    """Pearson r of each dimension over test images; 0 where a prediction never changes."""
    return Accuracy(*column_correlation(decoded, target))


def pearson_over_dimensions(decoded: Tensor, target: Tensor) -> Accuracy:
    """Pearson r of each image over the dimensions of its embedding (Takagi's score)."""
    r = paired_correlation(decoded, target)
    return Accuracy(r, r)


def explained_variance(decoded: Tensor, target: Tensor) -> Accuracy:
    """R^2 of each dimension: 1 - sum (y - f)^2 / sum (y - mean y)^2; may be below 0."""
    decoded, target = decoded.double(), target.double()
    total = (target - target.mean(dim=0)).square().sum(dim=0)
    error = (target - decoded).square() / total  # (n, d)
    return Accuracy(1 - error.sum(dim=0), 1 - error.mean(dim=1) * len(target))


MEASURES: dict[str, Callable[[Tensor, Tensor], Accuracy]] = {
    "pearson_dimensions": pearson_over_images,
    "pearson_samples": pearson_over_dimensions,
    "r2": explained_variance,
}


def measure_decoding(decoded: Tensor, target: Tensor) -> dict[str, Accuracy]:
    """Every measure of decoded embeddings.

    Dimensions that are the same in every target, such as CLIP's first text token, cannot be
    decoded well or badly: they are left out.

    Args:
        decoded, target: (n, ...) with equal shapes, row by row of the same images.
    """
    decoded, target = decoded.flatten(1), target.flatten(1)
    varies = target.amin(dim=0) < target.amax(dim=0)
    pair = decoded[:, varies], target[:, varies]
    return {name: measure(*pair) for name, measure in MEASURES.items()}
