"""Ridge regression from voxels to all outputs of a target at once: the linear baseline.

    minimise  |X W - Y|^2 + penalty |W|^2

    X  standardised voxels, (n, p)         U S V^T = X
    Y  centred outputs, (n, d)             prediction for rows Z:  Z V S / (S^2 + penalty) U^T Y

All outputs share one penalty, so the squared error that cross-validation sums over them depends on
Y only through Y Y^T (n, n): the outputs, up to 60,000 of them, are read once for that product, a
block at a time, whatever the number of folds and penalties, and once for predictions. Solvers
with a penalty for each output, such as himalaya's, multiply Y by a matrix for each fold and
penalty, and keep weights as large as Y.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from neuraldiffuser import runtime, storage
from neuraldiffuser.config.decoder import RidgeSettings
from neuraldiffuser.decoders.alignment import measure
from neuraldiffuser.errors import ConfigError

OUTPUTS_AT_ONCE = 2048


@dataclass(frozen=True)
class Factors:
    """A decomposition of X from which ridge predictions follow for any penalty.

    For rows Z: (Z basis) / (eigenvalues + penalty) scores^T Y.

    Attributes:
        eigenvalues: (k,) S^2, at least 0; k is the smaller of n and p.
        scores: (n, k).
        basis: (p, k).
    """

    eigenvalues: torch.Tensor
    scores: torch.Tensor
    basis: torch.Tensor


def factorise(rows: torch.Tensor) -> Factors:
    """Decomposes (n, p) float64 rows by the smaller of X X^T = U S^2 U^T and X^T X = V S^2 V^T."""
    if len(rows) <= rows.shape[1]:
        eigenvalues, vectors = torch.linalg.eigh(rows @ rows.T)
        return Factors(eigenvalues.clamp(min=0), scores=vectors, basis=rows.T @ vectors)
    eigenvalues, vectors = torch.linalg.eigh(rows.T @ rows)
    return Factors(eigenvalues.clamp(min=0), scores=rows @ vectors, basis=vectors)


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
    seed: int,
    device: str = "cpu",
) -> Ridge:
    """Fits with the penalty of least squared error on images left out in turn.

    Args:
        voxels: (n, p), a row per image.
        targets: (n, *shape) of the same images; kept, not copied.
        settings: penalties and folds.
        seed: of the folds.
        device: where products are computed, in float64.

    Raises:
        ConfigError: there are fewer images than folds.
        DataError: voxels or targets are not finite.
    """
    if len(voxels) < settings.folds:
        raise ConfigError(
            f"decoder.ridge.folds is {settings.folds}, but there are only {len(voxels)} training "
            "images; use fewer folds."
        )
    storage.require_finite(voxels, "voxels of ridge regression")
    storage.require_finite(targets, "targets of ridge regression")
    statistics = measure(voxels)
    mean, deviation = (
        torch.from_numpy(values).to(device) for values in (statistics.mean, statistics.deviation)
    )
    rows = (torch.from_numpy(voxels).to(mean) - mean) / deviation
    products = multiply_outputs(targets.reshape(len(targets), -1), device=device)
    penalty = choose_penalty(rows, products, settings, seed=seed)
    factors = factorise(rows)
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


def multiply_outputs(outputs: np.ndarray, *, device: str) -> torch.Tensor:
    """Y Y^T of centred (n, d) outputs, (n, n) float64."""
    products = torch.zeros(len(outputs), len(outputs), dtype=torch.float64, device=device)
    for _, block, _ in centred_blocks(outputs, device=device):
        products.addmm_(block, block.T)
    return products


def choose_penalty(
    rows: torch.Tensor, products: torch.Tensor, settings: RidgeSettings, *, seed: int
) -> float:
    """The penalty of least squared error, summed over all images left out and all outputs."""
    penalties = torch.tensor(settings.penalties, dtype=torch.float64, device=rows.device)
    shuffled = np.random.default_rng([seed, len(rows)]).permutation(len(rows))
    bar = runtime.progress(
        np.array_split(shuffled, settings.folds), description="choosing the penalty", unit="fold"
    )
    errors = sum(measure_errors(rows, products, fold, penalties) for fold in bar)
    chosen = settings.penalties[int(errors.argmin())]
    runtime.logger.info("ridge regression: penalty %g", chosen)
    if len(penalties) > 1 and chosen in (min(settings.penalties), max(settings.penalties)):
        runtime.logger.warning(
            "%g is at the end of decoder.ridge.penalties; others beyond it may be better", chosen
        )
    return chosen


def measure_errors(
    rows: torch.Tensor, products: torch.Tensor, left_out: np.ndarray, penalties: torch.Tensor
) -> torch.Tensor:
    """Squared error on images left out of the fit, summed over them and over all outputs.

    With R = Z V S (S^2 + penalty)^-1, the error |Y' - R U^T Y|^2 of the rows Z, Y' left out is
    tr Y'Y'^T - 2 tr R U^T Y Y'^T + tr R^T R U^T Y Y^T U.

    Args:
        rows: (n, p) voxels.
        products: (n, n), Y Y^T.
        left_out: rows that are predicted from the others.
        penalties: (q,).

    Returns:
        (q,) float64.
    """
    kept = np.setdiff1d(np.arange(len(rows)), left_out)
    mean = rows[kept].mean(dim=0)
    factors = factorise(rows[kept] - mean)
    read = (rows[left_out] - mean) @ factors.basis  # (m, k)
    centred = centre_products(products, kept)
    total = centred[left_out, left_out].sum()
    cross = (read * (centred[left_out][:, kept] @ factors.scores)).sum(dim=0)
    square = read.T @ read * (factors.scores.T @ centred[kept][:, kept] @ factors.scores)
    shrinkage = 1 / (factors.eigenvalues + penalties[:, None])  # (q, k)
    return total - 2 * shrinkage @ cross + (shrinkage @ square * shrinkage).sum(dim=1)


def centre_products(products: torch.Tensor, kept: np.ndarray) -> torch.Tensor:
    """The products of outputs from which the mean of the rows ``kept`` is subtracted."""
    with_mean = products[:, kept].mean(dim=1)
    return products - with_mean - with_mean[:, None] + with_mean[kept].mean()
