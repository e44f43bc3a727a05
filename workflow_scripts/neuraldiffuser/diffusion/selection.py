"""One repeat of every image, chosen by what was decoded of it, never by its stimulus.

The paper also reports the best of five repeats by a "second-order selection" that it does not
define. Here it is the repeat whose CLIP layers are most like the decoded ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from neuraldiffuser import storage
from neuraldiffuser.features.images import to_unit_range

Features = Mapping[str, Tensor]  # by target


def compare_decoded_features(repeats: Features, decoded: Features, means: Features) -> Tensor:
    """Mean over layers of the correlation with the decoded features, both without the mean feature.

    The mean feature is a part of every image's, so with it any two images would be alike.

    Args:
        repeats: features of one image's repeats, (r, ...) each.
        decoded: what was decoded of the image, (...) each.
        means: the mean over training images, (...) each.

    Returns:
        (r,) float64.
    """
    by_layer = [
        correlate(repeats[name] - mean, decoded[name] - mean) for name, mean in means.items()
    ]
    return torch.stack(by_layer).mean(dim=0)


def correlate(rows: Tensor, other: Tensor) -> Tensor:
    """Pearson r of each of the rows (r, ...) with the other (...): (r,) float64."""
    x, y = rows.double().flatten(1), other.double().flatten()[None]
    return cosine_similarity(x - x.mean(dim=1, keepdim=True), y - y.mean())


SIMILARITIES: dict[str, Callable[[Features, Features, Features], Tensor]] = {
    "decoded_features": compare_decoded_features,
}


def rate_repeats(
    images: np.ndarray,
    decoded: Features,
    means: Features,
    *,
    look: Callable[[Tensor], Features],
    by: str,
) -> np.ndarray:
    """How well each repeat fits what was decoded.

    The repeats of one image are looked at together and no others with them, so that shards change
    no bit.

    Args:
        images: uint8 (n, repeats, h, w, 3).
        decoded: what was decoded of the same images, (n, ...) each.
        means: the mean over training images, (...) each.
        look: images (r, 3, h, w) in [0, 1] to their features (r, ...) by target.
        by: a key of SIMILARITIES.

    Returns:
        (n, repeats) float64.
    """
    similarities = []
    for row, repeats in enumerate(images):
        own = {name: rows[row] for name, rows in decoded.items()}
        found = SIMILARITIES[by](look(to_unit_range(repeats)), own, means)
        similarities.append(found.cpu().numpy())
    return np.stack(similarities)


def choose_repeats(ids: np.ndarray, similarities: np.ndarray) -> pd.DataFrame:
    """The most similar repeat of each image, the first of equals.

    Args:
        ids: 73k ids (n,).
        similarities: (n, repeats).

    Returns:
        A row per image and repeat: id, repeat, similarity, chosen (bool).

    Raises:
        DataError: a similarity is not finite.
    """
    storage.require_finite(similarities, "similarity of repeats with the decoded features")
    number, repeats = similarities.shape
    every = np.arange(repeats)
    table = pd.DataFrame(
        {
            "id": np.repeat(ids, repeats),
            "repeat": np.tile(every, number),
            "similarity": similarities.ravel(),
            "chosen": (every == similarities.argmax(axis=1)[:, None]).ravel(),
        }
    )
    return table.sort_values(["id", "repeat"], ignore_index=True)
