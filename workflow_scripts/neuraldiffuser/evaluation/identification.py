"""Two-way identification: how often a reconstruction points to its own stimulus and no other.

Both conventions start from the Pearson correlations of features (repeats, n stimuli, n
reconstructions). A tie does not identify. Chance is 0.5.
"""

from collections.abc import Callable

from torch import Tensor


def identify_like_mindeye(correlations: Tensor) -> Tensor:
    """For each single reconstruction: share of the other stimuli it correlates less with.

    MindEyeV2, src/final_evaluations.ipynb, ``two_way_identification``.

    Args:
        correlations: (repeats, n, n), stimuli in rows, reconstructions in columns.

    Returns:
        (n, repeats) shares, by reconstruction.
    """
    own = correlations.diagonal(dim1=1, dim2=2)  # (repeats, n)
    wins = (correlations < own[:, None, :]).sum(dim=1)
    return wins.T.double() / (correlations.shape[1] - 1)


def identify_like_takagi(correlations: Tensor) -> Tensor:
    """For each stimulus: share of the other images whose reconstructions it correlates less with.

    Correlations are averaged over the repeats first, so five repeats act as an ensemble.
    StableDiffusionReconstruction, codes/utils/identification.py.

    Args:
        correlations: (repeats, n, n), stimuli in rows, reconstructions in columns.

    Returns:
        (n,) shares, by stimulus.
    """
    mean = correlations.mean(dim=0)
    wins = (mean < mean.diagonal()[:, None]).sum(dim=1)
    return wins.double() / (mean.shape[0] - 1)


IDENTIFICATION: dict[str, Callable[[Tensor], Tensor]] = {
    "mindeye": identify_like_mindeye,
    "takagi": identify_like_takagi,
}
