"""Means over the repeats of an image: trials are joined by id, never by position.

``MISSING_REPEATS`` holds one function per way to treat an image with fewer than three trials: from
the number of its trials (images,) to how many times more its first one counts (images,).
"""

from collections.abc import Callable

import numpy as np
import scipy.sparse

PLANNED = 3  # presentations of an image


def skip(found: np.ndarray) -> np.ndarray:
    """None: the mean is over the trials that exist."""
    return np.zeros_like(found)


def pad(found: np.ndarray) -> np.ndarray:
    """As many as bring it to three: a, b count as a, b, a (MindEye2, and the authors after it)."""
    return np.maximum(PLANNED - found, 0)


MISSING_REPEATS: dict[str, Callable[[np.ndarray], np.ndarray]] = {"skipped": skip, "padded": pad}


def count_trials(ids: np.ndarray, repeat: np.ndarray, *, missing_repeats: str) -> np.ndarray:
    """How often each trial counts in the mean of its image, (trials,) float64.

    Args:
        ids: (trials,) image of each trial.
        repeat: (trials,) how often the image had been shown before.
        missing_repeats: a name in ``MISSING_REPEATS``.
    """
    order = np.lexsort((repeat, ids))
    _, first, found = np.unique(ids[order], return_index=True, return_counts=True)
    times = np.ones(len(ids))
    times[order[first]] += MISSING_REPEATS[missing_repeats](found)
    return times


def sum_repeats(
    rows: np.ndarray, ids: np.ndarray, *, times: np.ndarray, present: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sums of the rows with equal id, and how many make them up.

    Args:
        rows: (trials, columns) floating-point.
        ids: (trials,) image of each row.
        times: (trials,) how often each row counts.
        present: bool (trials, columns), or (trials, 1) for all columns alike; where it is False,
            the row has no value.

    Returns:
        ids (images,) ascending; sums (images, columns); counts, shaped (images, columns or 1).
    """
    images, number = np.unique(ids, return_inverse=True)
    places = (number, np.arange(len(ids)))
    join = scipy.sparse.csr_array((times.astype(rows.dtype), places), (len(images), len(ids)))
    kept = rows if present.all() else np.where(present, rows, 0)
    return images, join @ kept, join @ present.astype(rows.dtype)


def average_repeats(
    rows: np.ndarray,
    ids: np.ndarray,
    *,
    times: np.ndarray | None = None,
    present: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Means of the rows with equal id: ids ascending (images,), means (images, columns).

    Args:
        rows, ids, times, present: as for ``sum_repeats``; without them every row counts once, and
            has a value in every column. A mean is 0 where no value is left.
    """
    everything = np.ones((len(ids), 1), bool)
    images, sums, counts = sum_repeats(
        rows,
        ids,
        times=np.ones(len(ids)) if times is None else times,
        present=everything if present is None else present,
    )
    return images, np.divide(sums, counts, out=np.zeros_like(sums), where=counts > 0)
