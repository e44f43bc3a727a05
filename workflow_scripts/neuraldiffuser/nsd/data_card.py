"""The data card: what the voxels of each subject can carry, and what is missing from them."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from neuraldiffuser.nsd import published_counts, rois
from neuraldiffuser.nsd.voxels import SPLITS, Trials, Voxels

NO_SESSION = "none"
REPEATS = {1: "shown_once", 2: "shown_twice", 3: "shown_three_times"}


@dataclass(frozen=True)
class DataCard:
    """Three tables.

    Attributes:
        subjects: a row per subject. ``subject``; ``voxels``; ``dropped_voxels`` of nsdgeneral;
            ``sessions`` used; ``missing_sessions``: their numbers, or "none";
            ``published_counts``: what a comparison with them said.
        regions: a row per subject and region. ``subject``, ``region``; ``voxels``;
            ``invalid_voxels`` (constant through some session) and ``invalid_voxel_sessions`` (how
            many times, over sessions); ``noise_ceiling`` (mean over voxels, percent of the variance
            of a three-trial mean) with its 10 %, 50 % and 90 % quantiles.
        trials: a row per subject and split. ``subject``, ``split``; ``trials``; ``images``, and how
            many of them were ``shown_once``, ``shown_twice`` and ``shown_three_times``.
    """

    subjects: pd.DataFrame
    regions: pd.DataFrame
    trials: pd.DataFrame


def describe(everybody: Iterable[Voxels]) -> DataCard:
    """The data card of some subjects.

    Raises:
        DataError: a subject of NSD differs from what is published of it.
    """
    subjects, regions, trials = [], [], []
    for voxels in everybody:
        subjects.append(describe_subject(voxels))
        regions.extend(describe_regions(voxels))
        trials.extend(describe_splits(voxels))
    return DataCard(*map(pd.DataFrame, (subjects, regions, trials)))


def describe_subject(voxels: Voxels) -> dict[str, object]:
    """A subject's voxels and sessions, and whether its counts are NSD's."""
    missing = ", ".join(map(str, voxels.missing_sessions)) or NO_SESSION
    return {
        "subject": voxels.subject,
        "voxels": len(voxels.selection.index),
        "dropped_voxels": voxels.dropped_voxels,
        "sessions": len(voxels.statistics.session),
        "missing_sessions": missing,
        "published_counts": published_counts.compare(voxels),
    }


def describe_regions(voxels: Voxels) -> list[dict[str, object]]:
    """Voxels and noise ceilings of each region that a subject has."""
    invalid = ~voxels.statistics.valid
    return [
        {
            "subject": voxels.subject,
            "region": name,
            "voxels": int(mask.sum()),
            "invalid_voxels": int(invalid[:, mask].any(axis=0).sum()),
            "invalid_voxel_sessions": int(invalid[:, mask].sum()),
            **_summarise(voxels.selection.noise_ceiling[mask]),
        }
        for name, mask in rois.regions(voxels.selection.roi).items()
        if mask.any()
    ]


def _summarise(ceilings: np.ndarray) -> dict[str, float]:
    ceilings = ceilings.astype(np.float64)
    quantiles = {f"noise_ceiling_{q}": float(np.percentile(ceilings, q)) for q in (10, 50, 90)}
    return {"noise_ceiling": float(ceilings.mean()), **quantiles}


def describe_splits(voxels: Voxels) -> list[dict[str, object]]:
    """Trials, images and repeats of training and test."""
    return [
        {"subject": voxels.subject, "split": split, **_count_repeats(getattr(voxels, split))}
        for split in SPLITS
    ]


def _count_repeats(trials: Trials) -> dict[str, int]:
    _, shown = np.unique(trials.id, return_counts=True)
    repeats = {name: int((shown == times).sum()) for times, name in REPEATS.items()}
    return {"trials": len(trials.id), "images": len(shown), **repeats}
