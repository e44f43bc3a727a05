"""Brain correlation: how well an encoder's response to reconstructions predicts the measured one.

Two directions: over the voxels of an area for each image (peers' code), and over images for each
voxel (the paper's text). Both are given per image, and as a share of what noise allows.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from neuraldiffuser.config.guidance import EncoderSettings
from neuraldiffuser.diffusion.guidance.encoder import choose_guiding_voxels
from neuraldiffuser.encoding.prediction import StoredEncoder, match_voxels, predict
from neuraldiffuser.errors import DataError
from neuraldiffuser.evaluation.correlation import column_correlation, paired_correlation
from neuraldiffuser.evaluation.images import name_ids
from neuraldiffuser.evaluation.long_form import to_long_form
from neuraldiffuser.evaluation.metrics import AREAS, brain_metric
from neuraldiffuser.nsd import rois
from neuraldiffuser.nsd.noise_ceiling import explainable_share
from neuraldiffuser.nsd.voxels import Voxels

REGIONS = {"hV4": "V4", "higher_visual": rois.HIGHER, "nsdgeneral": rois.WHOLE}
FEWEST_IMAGES = 3


def over_voxels(measured: Tensor, predicted: Tensor) -> Tensor:
    """Pearson r over voxels: measured (n, v), predicted (n, repeats, v) to (n, repeats)."""
    return paired_correlation(measured[:, None], predicted)


def over_images(measured: Tensor, predicted: Tensor) -> Tensor:
    """Each image's share in the mean over voxels of Pearson r over images; shapes as above.

    The mean over the images is exactly the mean correlation.
    """
    shares = [column_correlation(measured, predicted[:, k])[1] for k in range(predicted.shape[1])]
    return torch.stack(shares, dim=1)


@dataclass(frozen=True)
class Ceilings:
    """What of the responses, averaged over the trials of each image, a perfect model explains.

    ASSUME: a voxel that has no value in some session counts as measured there.

    Attributes:
        percent: (v,) noise ceiling of each voxel: percent of the variance of three-trial means.
        trials: (n,) how many trials each image's mean is of.
    """

    percent: np.ndarray
    trials: np.ndarray

    def __post_init__(self) -> None:
        broken = ~((self.percent >= 0) & (self.percent <= 100))
        if broken.any():
            raise DataError(
                f"{broken.sum()} of {len(self.percent)} voxels have a noise ceiling that is no "
                "number from 0 to 100; delete the subject's voxels and run the workflow again."
            )

    def choose(self, mask: np.ndarray) -> "Ceilings":
        """Those of the voxels at which ``mask`` (v,) is True."""
        return Ceilings(percent=self.percent[mask], trials=self.trials)

    @property
    def shares(self) -> np.ndarray:
        """(v,) explainable share of each voxel's variance over images."""
        return explainable_share(self.percent, trials=self.trials)


def ceiling_over_voxels(ceilings: Ceilings, variance: np.ndarray) -> float:
    """Largest correlation over voxels to expect: root of the explainable share of all variance.

    A voxel counts with its variance: z-scored trials leave reliable voxels more of it in means. An
    image counts with its own number of trials.

    ASSUME: every image evokes a pattern of equal strength. Where they do not, a perfect model stays
    below it, since roots of unequal shares average to less: this is an upper bound.

    Args:
        ceilings: of (v,) voxels and (n,) images.
        variance: (v,) of each voxel over images.
    """
    signal = (ceilings.shares * variance).sum()
    noise = variance.sum() - signal  # of an image with an average part of a trial's noise
    if signal <= 0:
        return 0.0
    parts = 1 / ceilings.trials
    return float(np.mean(np.sqrt(signal / (signal + noise * parts / parts.mean()))))


def ceiling_over_images(ceilings: Ceilings, variance: np.ndarray) -> float:  # noqa: ARG001
    """Largest mean correlation over images: mean root of each voxel's explainable share."""
    return float(np.mean(np.sqrt(ceilings.shares)))


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


def find_areas(labels: np.ndarray) -> dict[str, np.ndarray]:
    """Boolean masks (voxels,) of the areas by the names that metrics have.

    Args:
        labels: (voxels,) prf-visualrois labels.
    """
    masks = rois.regions(labels)
    return {area: masks[REGIONS.get(area, area)] for area in AREAS}


def measure_brain(
    measured: np.ndarray,
    predicted: np.ndarray,
    *,
    labels: np.ndarray,
    ceilings: Ceilings,
    judging: np.ndarray,
) -> dict[str, np.ndarray]:
    """Brain correlations of every area in both directions.

    Args:
        measured: (n, voxels) betas averaged over trials.
        predicted: (n, repeats, voxels) an encoder's responses to the images.
        labels: (voxels,) prf-visualrois labels.
        ceilings: of these voxels and images.
        judging: (voxels,) bool, those that guide no variant. Where some do guide, the same is
            measured on these alone, under names that end in "judged".

    Returns:
        By metric name (n, repeats). Areas with fewer than two voxels are left out.

    Raises:
        DataError: predictions and measurements differ in voxels, or there are fewer than three
            images.
    """
    if measured.shape[1] != predicted.shape[2]:
        raise DataError(
            f"the encoder predicts {predicted.shape[2]} voxels, but {measured.shape[1]} were "
            "measured; train the encoder on this subject's voxels."
        )
    if len(measured) < FEWEST_IMAGES:
        raise DataError(
            f"Brain correlation over images needs {FEWEST_IMAGES} images or more, but there are "
            f"{len(measured)}; reconstruct more images."
        )
    variance = measured.var(axis=0, dtype=np.float64)
    areas = {(area, False): mask for area, mask in find_areas(labels).items()}
    if not judging.all():
        areas |= {(area, True): mask & judging for (area, _), mask in areas.items()}
    values: dict[str, np.ndarray] = {}
    for (area, judged), mask in areas.items():
        if mask.sum() < 2:
            continue
        pair = torch.from_numpy(measured[:, mask]), torch.from_numpy(predicted[..., mask])
        for direction, (correlate, ceiling) in BRAIN_CORRELATIONS.items():
            found = correlate(*pair).numpy()
            values[brain_metric(area, direction, judged=judged)] = found
            largest = ceiling(ceilings.choose(mask), variance[mask])
            if largest > 0:
                name = brain_metric(area, direction, of_ceiling=True, judged=judged)
                values[name] = found / largest
    return values


def judge_images(
    ids: np.ndarray,
    images: np.ndarray,
    *,
    voxels: Voxels,
    encoder: StoredEncoder,
    guiding: EncoderSettings,
    seed: int,
) -> pd.DataFrame:
    """Brain correlations of images, in long form.

    Args:
        ids: (n,) 73k ids of the stimuli that they are to resemble.
        images: (n, repeats, h, w, 3) uint8.
        voxels: of the subject whose brain judges.
        encoder: of these voxels.
        guiding: regions and share of the voxels that guide; the others judge.
        seed: of their choice.

    Raises:
        DataError: the encoder is of other voxels, or an image was not measured.
    """
    match_voxels(encoder, voxels.selection, subject=voxels.subject)
    known, rows = voxels.averaged("test")
    predicted = predict(encoder.network, images.reshape(-1, *images.shape[2:]))
    values = measure_brain(
        rows_of(ids, known, rows),
        predicted.reshape(*images.shape[:2], -1),
        labels=voxels.selection.roi,
        ceilings=Ceilings(
            percent=voxels.selection.noise_ceiling,
            trials=rows_of(ids, known, voxels.test.count_repeats()),
        ),
        judging=~choose_guiding_voxels(voxels.selection.roi, guiding, seed=seed),
    )
    return to_long_form(ids, values)
