"""Ridge regression from voxels to all outputs of a target at once: the linear baseline.

    minimise  |X W - Y|^2 + penalty |W|^2

    X  standardised voxels, (n, p)         U S V^T = X
    Y  centred outputs, (n, d)             prediction for rows Z:  Z V S / (S^2 + penalty) U^T Y

The penalty, one for all outputs, is that of least squared error over images left out one at a
time. No image needs a fit of its own: with H = U S^2 / (S^2 + penalty) U^T, the error of image i
in the fit on all others is its residual in the fit on all, divided by 1 - H_ii - 1/n (Allen's
PRESS; 1/n is the intercept's). Summed over outputs, squared residuals depend on Y only through
the diagonal of Y Y^T and Y Y^T U: the outputs, up to 60,000 of them, are read once for those, a
block at a time, whatever the number of penalties, and once for predictions. Solvers with a
penalty for each output, such as himalaya's, multiply Y by a matrix for each fold and penalty, and
keep weights as large as Y.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from neuraldiffuser import runtime, storage
from neuraldiffuser.config.decoder import RidgeSettings
from neuraldiffuser.decoders.alignment import measure
from neuraldiffuser.errors import ConfigError

FEWEST_IMAGES = 3
IMAGES_AT_ONCE = 2048
OUTPUTS_AT_ONCE = 2048


@dataclass(frozen=True)
class Factors:
    """A decomposition of X from which ridge predictions follow for any penalty.

    For rows Z: (Z basis) / (eigenvalues + penalty) scores^T Y.

    Attributes:
        eigenvalues: (k,) S^2, at least 0; k is the smaller of n and p.
        scores: (n, k).
        basis: (p, k).
        own: (n, k), X basis.
    """

    eigenvalues: torch.Tensor
    scores: torch.Tensor
    basis: torch.Tensor
    own: torch.Tensor


def factorise(rows: torch.Tensor) -> Factors:
    """Decomposes (n, p) float64 rows by the smaller of X X^T = U S^2 U^T and X^T X = V S^2 V^T."""
    if len(rows) <= rows.shape[1]:
        eigenvalues, vectors = torch.linalg.eigh(rows @ rows.T)
        eigenvalues = eigenvalues.clamp(min=0)
        return Factors(eigenvalues, vectors, basis=rows.T @ vectors, own=vectors * eigenvalues)
    eigenvalues, vectors = torch.linalg.eigh(rows.T @ rows)
    scores = rows @ vectors
    return Factors(eigenvalues.clamp(min=0), scores, basis=vectors, own=scores)


@dataclass(frozen=True)
class Ridge:
    """A fitted regression: what turns voxels into weights of the training images' targets.

    Attributes:
        penalty: the one chosen.
        mean, deviation: (p,) float64 of the training voxels.
        readout: (p, k) float64, basis / (eigenvalues + penalty).
        scores: (n, k) float64.
        targets: (n, *shape), on the host.
    """

    penalty: float
    mean: torch.Tensor
    deviation: torch.Tensor
    readout: torch.Tensor
    scores: torch.Tensor
    targets: np.ndarray

    def predict(self, voxels: np.ndarray) -> np.ndarray:
        """Outputs (m, *shape) float32 for (m, p) voxels."""
        rows = (torch.from_numpy(voxels).to(self.mean) - self.mean) / self.deviation
        weights = rows @ self.readout @ self.scores.T  # (m, n)
        outputs = self.targets.reshape(len(self.targets), -1)
        predicted = np.empty((len(voxels), outputs.shape[1]), np.float32)
        for columns, block, mean in centred_blocks(outputs, device=str(self.mean.device)):
            predicted[:, columns] = (weights @ block + mean).cpu().numpy()
        return predicted.reshape(len(voxels), *self.targets.shape[1:])


def fit_ridge(
    voxels: np.ndarray,
    targets: np.ndarray,
    settings: RidgeSettings,
    *,
    device: str = "cpu",
) -> Ridge:
    """Fits with the penalty of least squared error on images left out one at a time.

    Args:
        voxels: (n, p), a row per image.
        targets: (n, *shape) of the same images; kept, not copied.
        settings: penalties.
        device: where products are computed, in float64.

    Raises:
        ConfigError: there are fewer than three images.
        DataError: voxels or targets are not finite.
    """
    if len(voxels) < FEWEST_IMAGES:
        raise ConfigError(
            f"Ridge regression needs {FEWEST_IMAGES} training images or more and was given "
            f"{len(voxels)}; lower decoder.validation_images or fetch more sessions."
        )
    storage.require_finite(voxels, "voxels of ridge regression")
    storage.require_finite(targets, "targets of ridge regression")
    statistics = measure(voxels)
    mean, deviation = (
        torch.from_numpy(values).to(device) for values in (statistics.mean, statistics.deviation)
    )
    factors = factorise((torch.from_numpy(voxels).to(mean) - mean) / deviation)
    products = multiply_outputs(targets.reshape(len(targets), -1), factors.scores)
    penalty = choose_penalty(factors, products, settings.penalties)
    return Ridge(
        penalty=penalty,
        mean=mean,
        deviation=deviation,
        readout=factors.basis / (factors.eigenvalues + penalty),
        scores=factors.scores,
        targets=targets,
    )


def centred_blocks(
    outputs: np.ndarray, *, device: str
) -> Iterator[tuple[slice, torch.Tensor, torch.Tensor]]:
    """Columns of (n, d) outputs, block by block: which, centred (n, b) and mean (b,) in float64."""
    for start in range(0, outputs.shape[1], OUTPUTS_AT_ONCE):
        columns = slice(start, start + OUTPUTS_AT_ONCE)
        block = torch.from_numpy(outputs[:, columns]).to(device, torch.float64)
        mean = block.mean(dim=0)
        yield columns, block - mean, mean


@dataclass(frozen=True)
class Products:
    """All that squared residuals, summed over outputs Y, need of them.

    Attributes:
        squares: (n,) diagonal of Y Y^T.
        with_scores: (n, k), Y Y^T scores.
    """

    squares: torch.Tensor
    with_scores: torch.Tensor


def multiply_outputs(outputs: np.ndarray, scores: torch.Tensor) -> Products:
    """Products of centred (n, d) outputs, which are read once; a block of them is in memory."""
    squares, with_scores = torch.zeros_like(scores[:, 0]), torch.zeros_like(scores)
    for _, block, _ in centred_blocks(outputs, device=str(scores.device)):
        squares += block.square().sum(dim=1)
        with_scores.addmm_(block, block.T @ scores)
    return Products(squares, with_scores)


def choose_penalty(factors: Factors, products: Products, penalties: Sequence[float]) -> float:
    """The penalty of least squared error, summed over all images left out and all outputs."""
    errors = measure_errors(factors, products, penalties)
    chosen = penalties[int(errors.argmin())]
    runtime.logger.info("ridge regression: penalty %g", chosen)
    if len(penalties) > 1 and chosen in (min(penalties), max(penalties)):
        runtime.logger.warning(
            "%g is at the end of decoder.ridge.penalties; others beyond it may be better", chosen
        )
    return chosen


def measure_errors(
    factors: Factors, products: Products, penalties: Sequence[float]
) -> torch.Tensor:
    """Squared error on images, each left out of its fit, summed over them and over all outputs.

    With R = X V S (S^2 + penalty)^-1, the squared residuals of the fit on all images are the
    diagonal of Y Y^T - 2 R U^T Y Y^T + R (U^T Y Y^T U) R^T.

    Args:
        factors: of centred rows.
        products: of centred outputs.
        penalties: q of them.

    Returns:
        (q,) float64.
    """
    among_scores = factors.scores.T @ products.with_scores
    errors = factors.eigenvalues.new_zeros(len(penalties))
    blocks = range(0, len(factors.scores), IMAGES_AT_ONCE)
    for start in runtime.progress(blocks, description="choosing the penalty", unit="block"):
        images = slice(start, start + IMAGES_AT_ONCE)
        for index, penalty in enumerate(penalties):
            readout = factors.own[images] / (factors.eigenvalues + penalty)
            residuals = (
                products.squares[images]
                - 2 * (readout * products.with_scores[images]).sum(dim=1)
                + (readout @ among_scores * readout).sum(dim=1)
            )
            leverages = (readout * factors.scores[images]).sum(dim=1) + 1 / len(factors.scores)
            errors[index] += (residuals / (1 - leverages).square()).sum()
    return errors
