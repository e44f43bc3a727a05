"""Top-1 retrieval, both ways, among drawn and among all candidates, and by a vote of the layers.

Directions as the paper defines them (section 5.3): image retrieval picks, for a brain, one of the
candidate images; brain retrieval picks, for an image, one of the candidate brains. In the peers'
code the two labels are exchanged, because ``batchwise_cosine_similarity`` ends in a transpose.

Registry ``SIMILARITIES``: how what a predictor says is compared with the targets. A projection is
trained by contrast: only its direction means something, in the space of the targets as they are. An
embedding is trained to lie near its target, and all targets lie near their mean: what tells images
apart is what an embedding adds to the mean of the training targets.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from neuraldiffuser.config.evaluation import RetrievalSettings
from neuraldiffuser.evaluation.predictors import ALL, DRAWN


def cosine_similarity(projections: Tensor, targets: Tensor) -> Tensor:
    """Cosines of flattened embeddings: brains (n, ...) in rows, images (n, ...) in columns."""
    brains, images = (
        torch.nn.functional.normalize(embeddings.flatten(1).double(), dim=1)
        for embeddings in (projections, targets)
    )
    return brains @ images.T


def compare_directions(projections: Tensor, targets: Tensor, mean: Tensor) -> Tensor:  # noqa: ARG001
    """Cosines of projections with targets, as contrastive training compares them."""
    return cosine_similarity(projections, targets)


def compare_deviations(embeddings: Tensor, targets: Tensor, mean: Tensor) -> Tensor:
    """Cosines of what embeddings and targets add to the mean of the training targets."""
    return cosine_similarity(embeddings - mean, targets - mean)


SIMILARITIES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "projection": compare_directions,
    "embedding": compare_deviations,
}
DIRECTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "image": lambda similarities: similarities,  # queries are brains: rows
    "brain": lambda similarities: similarities.mT,  # queries are images
}


def majority(similarities: Tensor) -> Tensor:
    """Each layer's first choices count one vote; the summed similarity breaks ties.

    Args:
        similarities: (layers, queries, candidates) cosines; layers with equal best candidates
            vote for all of them.

    Returns:
        (queries, candidates, 2): votes and summed similarity, to be compared in this order.
    """
    votes = (similarities == similarities.amax(dim=2, keepdim=True)).sum(dim=0).double()
    return torch.stack([votes, similarities.sum(dim=0)], dim=2)


def summed(similarities: Tensor) -> Tensor:
    """The largest summed similarity wins; shapes as in ``majority``."""
    total = similarities.sum(dim=0)
    return torch.stack([total, total], dim=2)


VOTES: dict[str, Callable[[Tensor], Tensor]] = {"majority": majority, "sum": summed}


def own_wins(scores: Tensor) -> Tensor:
    """Whether candidate i beats all others for query i: (n, n, 2) to (n,). Ties do not win."""
    own = scores.diagonal().T[:, None, :]  # (n, 1, 2)
    behind = (scores[..., 0] < own[..., 0]) | (
        (scores[..., 0] == own[..., 0]) & (scores[..., 1] < own[..., 1])
    )
    return behind.sum(dim=1) == len(scores) - 1


def choose_candidates(number: int, settings: RetrievalSettings) -> dict[str, np.ndarray]:
    """Which of ``number`` images and brains take part, by pool: (draws, candidates) each.

    ``drawn``: random subsets without replacement, of all images where there are fewer than
    ``settings.candidates``. ``all``: every image, once.
    """
    candidates = min(settings.candidates, number)
    generator = np.random.default_rng(settings.seed)
    subsets = [generator.permutation(number)[:candidates] for _ in range(settings.draws)]
    return {DRAWN: np.stack(subsets), ALL: np.arange(number)[None]}


def retrieve(
    similarities: Tensor, drawn: np.ndarray, *, vote: str
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """How often each image is retrieved.

    Args:
        similarities: (layers, n, n), brains in rows, images in columns; one layer needs no vote.
        drawn: (draws, candidates) rows and columns that take part.
        vote: key of ``VOTES``.

    Returns:
        By direction: successes (n,) and trials (n,) of each image over the draws.
    """
    number = similarities.shape[1]
    results = {}
    for direction, turn in DIRECTIONS.items():
        turned = turn(similarities)
        won = np.concatenate(
            [own_wins(VOTES[vote](turned[:, rows][:, :, rows])).numpy() for rows in drawn]
        )
        successes = np.bincount(drawn.ravel(), weights=won, minlength=number)
        results[direction] = successes, np.bincount(drawn.ravel(), minlength=number)
    return results
