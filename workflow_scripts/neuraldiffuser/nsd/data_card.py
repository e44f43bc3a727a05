"""The data card: what the voxels of each subject and area can carry, as one table."""

from collections.abc import Iterable

import pandas as pd

from neuraldiffuser.nsd import rois
from neuraldiffuser.nsd.voxels import Voxels


def describe(subjects: Iterable[Voxels]) -> pd.DataFrame:
    """One row per subject and region.

    Columns: ``subject``, ``region``; ``voxels``, ``invalid_voxels`` (constant in some session);
    ``noise_ceiling`` (mean over voxels, percent of the variance of a three-trial mean) with its
    10 %, 50 % and 90 % quantiles; ``sessions``; trials and images of training and test.
    """
    return pd.DataFrame([row for voxels in subjects for row in _rows(voxels)])


def _rows(voxels: Voxels) -> list[dict]:
    counts = {
        "sessions": len(voxels.statistics.session),
        "training_trials": len(voxels.training.id),
        "training_images": len(set(voxels.training.id.tolist())),
        "test_trials": len(voxels.test.id),
        "test_images": len(set(voxels.test.id.tolist())),
    }
    invalid = ~voxels.statistics.valid.all(axis=0)
    regions = rois.regions(voxels.selection.roi)
    return [
        {
            "subject": voxels.subject,
            "region": name,
            "voxels": int(mask.sum()),
            "invalid_voxels": int((invalid & mask).sum()),
            **_ceilings(pd.Series(voxels.selection.noise_ceiling[mask])),
            **counts,
        }
        for name, mask in regions.items()
        if mask.any()
    ]


def _ceilings(values: pd.Series) -> dict[str, float]:
    quantiles = {f"noise_ceiling_{q}": float(values.quantile(q / 100)) for q in (10, 50, 90)}
    return {"noise_ceiling": float(values.mean()), **quantiles}
