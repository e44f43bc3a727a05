"""Brain correlation: how well an encoder's response to reconstructions predicts the measured one.

Two directions: over the voxels of an area for each image (peers' code), and over images for each
voxel (the paper's text). Both are given per image, and as a share of what noise allows.
"""

import numpy as np
import torch
from torch import Tensor

from neuraldiffuser.errors import DataError
from neuraldiffuser.evaluation.correlation import column_correlation, paired_correlation
from neuraldiffuser.evaluation.images import name_ids
from neuraldiffuser.evaluation.metrics import AREAS, brain_metric
from neuraldiffuser.nsd import rois

REGIONS = {"hV4": "V4", "higher_visual": rois.HIGHER, "nsdgeneral": rois.WHOLE}


def over_voxels(measured: Tensor, predicted: Tensor) -> Tensor:
    """Pearson r over voxels: measured (n, v), predicted (n, repeats, v) to (n, repeats)."""
    return paired_correlation(measured[:, None], predicted)


def over_images(measured: Tensor, predicted: Tensor) -> Tensor:
    """Each image's share in the mean over voxels of Pearson r over images; shapes as above.

    The mean over the images is exactly the mean correlation.
    """
    shares = [column_correlation(measured, predicted[:, k])[1] for k in range(predicted.shape[1])]
    return torch.stack(shares, dim=1)


def ceiling_over_voxels(noise_ceiling: np.ndarray) -> float:
    """Largest correlation over voxels to expect: root of the explainable share of variance.

    ASSUME: all voxels of an area have equal variance, which z-scoring makes nearly true.

    Args:
        noise_ceiling: (v,) percent of variance.
    """
    return float(np.sqrt(np.mean(noise_ceiling) / 100))


def ceiling_over_images(noise_ceiling: np.ndarray) -> float:
    """Largest mean correlation over images: mean root of each voxel's explainable share."""
    return float(np.mean(np.sqrt(noise_ceiling / 100)))


BRAIN_CORRELATIONS = {
    "voxels_per_image": (over_voxels, ceiling_over_voxels),
    "images_per_voxel": (over_images, ceiling_over_images),
}


def rows_of(ids: np.ndarray, known: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The rows of the images ``ids``, given rows of the ascending ids ``known``.

    Raises:
        DataError: an image was not measured.
    """
    missing = np.setdiff1d(ids, known)
    if len(missing):
        raise DataError(
            f"the images {name_ids(missing)} were reconstructed but are no test images of these "
            "voxels; delete the reconstructions and run them again."
        )
    return rows[np.searchsorted(known, ids)]


def measure_brain(
    measured: np.ndarray, predicted: np.ndarray, *, labels: np.ndarray, noise_ceiling: np.ndarray
) -> dict[str, np.ndarray]:
    """Brain correlations of every area in both directions.

    Args:
        measured: (n, voxels) betas averaged over trials.
        predicted: (n, repeats, voxels) an encoder's responses to the reconstructions.
        labels: (voxels,) prf-visualrois labels.
        noise_ceiling: (voxels,) percent of variance of the averaged trials.

    Returns:
        By metric name (n, repeats). Areas with fewer than two voxels are left out.

    Raises:
        DataError: predictions and measurements differ in voxels.
    """
    if measured.shape[1] != predicted.shape[2]:
        raise DataError(
            f"the encoder predicts {predicted.shape[2]} voxels, but {measured.shape[1]} were "
            "measured; train the encoder on this subject's voxels."
        )
    masks = rois.regions(labels)
    values: dict[str, np.ndarray] = {}
    for area in AREAS:
        mask = masks[REGIONS.get(area, area)]
        if mask.sum() < 2:
            continue
        pair = torch.from_numpy(measured[:, mask]), torch.from_numpy(predicted[..., mask])
        for direction, (correlate, ceiling) in BRAIN_CORRELATIONS.items():
            found = correlate(*pair).numpy()
            values[brain_metric(area, direction)] = found
            largest = ceiling(noise_ceiling[mask])
            if largest > 0:
                values[brain_metric(area, direction, of_ceiling=True)] = found / largest
    return values
