"""How fast ridge regression decodes one target, its penalty chosen among the paper's range.

    python benchmarks/ridge.py [--size tiny|slice|full] [--device cpu|cuda] [--json FILE]

Both sides start from voxels (n, p) in memory and outputs (n, d) in a file in half precision,
choose one of the configuration's penalties by leaving out each row once, and predict the outputs
of as many rows as NSD has test images. The peers' way is scikit-learn's: StandardScaler, then
RidgeCV, which also leaves out each row exactly, from one decomposition, in float64. Both must
choose the same penalty and predict the same. The floor is the products that neither way does
without, at the rate of a large one in float64: voxels with each other, outputs with the
decomposition, weights with outputs.

``full`` is NSD's largest target for one subject trial by trial, and needs a CUDA GPU; scikit-learn
is not asked for it. ``slice`` has a tenth of the rows, voxels and outputs.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow_scripts"))

import numpy as np
import torch
from comparison import GIGABYTE, Measurement, Row, format_table, measure, write_rows
from device_rates import describe_device, measure_matrix_rate
from sklearn.linear_model import RidgeCV
from sklearn.preprocessing import StandardScaler

from neuraldiffuser.config.decoder import RidgeSettings
from neuraldiffuser.decoders.ridge import fit_ridge

SETTINGS = RidgeSettings()
TOLERANCE = 1e-4  # of the outputs' deviation
ROWS_AT_ONCE = 1000


@dataclass(frozen=True)
class Size:
    """Rows to learn from and to predict, voxels, outputs, and whether scikit-learn is asked."""

    rows: int
    unseen: int
    voxels: int
    outputs: int
    compared: bool = True


SIZES = {
    "tiny": Size(rows=300, unseen=20, voxels=80, outputs=700),
    "slice": Size(rows=2700, unseen=100, voxels=1572, outputs=5914),
    "full": Size(rows=27_000, unseen=1000, voxels=15_724, outputs=59_136, compared=False),
}


@dataclass(frozen=True)
class Problem:
    """Where voxels and outputs lie, and where they are regressed."""

    folder: Path
    device: str

    def voxels(self, rows: str) -> np.ndarray:
        """(n, p) float32 in memory, of the rows to learn from or of those unseen."""
        return np.load(self.folder / f"{rows}.npy")

    @property
    def outputs(self) -> np.ndarray:
        """(n, d) float16 in a file."""
        return np.load(self.folder / "outputs.npy", mmap_mode="c")


@dataclass(frozen=True)
class Regression:
    """What a side found, and what of a GPU's memory it took."""

    penalty: float
    predicted: np.ndarray
    gpu_gigabytes: float = 0.0


def draw_problem(folder: Path, size: Size) -> None:
    """Voxels that know a little about outputs: each output follows a few hidden causes."""
    rng = np.random.default_rng(0)
    causes = 50
    seen = rng.standard_normal((causes, size.voxels), dtype=np.float32)
    shown = rng.standard_normal((causes, size.outputs), dtype=np.float32)
    hidden = {
        name: rng.standard_normal((count, causes), dtype=np.float32)
        for name, count in {"seen": size.rows, "unseen": size.unseen}.items()
    }
    for name, rows in hidden.items():
        noise = rng.standard_normal((len(rows), size.voxels), dtype=np.float32)
        np.save(folder / f"{name}.npy", rows @ seen + 10 * noise)
    outputs = np.lib.format.open_memmap(
        folder / "outputs.npy", mode="w+", dtype=np.float16, shape=(size.rows, size.outputs)
    )
    for start in range(0, size.rows, ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        outputs[rows] = hidden["seen"][rows] @ shown
    outputs.flush()


def regress(problem: Problem) -> Regression:
    """Our way."""
    ridge = fit_ridge(problem.voxels("seen"), problem.outputs, SETTINGS, device=problem.device)
    predicted = ridge.predict(problem.voxels("unseen"))
    used = torch.cuda.max_memory_allocated() / GIGABYTE if problem.device == "cuda" else 0.0
    return Regression(ridge.penalty, predicted, used)


def regress_by_scikit_learn(problem: Problem) -> Regression:
    """The same penalty for all outputs, chosen among the same."""
    scaler = StandardScaler().fit(problem.voxels("seen").astype(np.float64))
    ridge = RidgeCV(alphas=SETTINGS.penalties)
    ridge.fit(scaler.transform(problem.voxels("seen")), problem.outputs.astype(np.float64))
    predicted = ridge.predict(scaler.transform(problem.voxels("unseen")))
    return Regression(float(ridge.alpha_), predicted.astype(np.float32))


def keep(found: Regression) -> Regression:
    """What a measured process returns."""
    return found


def refuse_difference(ours: Regression, peer: Regression) -> None:
    """Ends the benchmark where both sides do not find the same."""
    assert ours.penalty == peer.penalty, f"penalties {ours.penalty:g} and {peer.penalty:g}"
    difference = np.abs(ours.predicted - peer.predicted).max() / peer.predicted.std()
    assert difference < TOLERANCE, f"predictions differ by {difference:.1g} deviations"


def count_operations(size: Size) -> float:
    """Of the products that neither way does without."""
    components = min(size.rows, size.voxels)
    return 2.0 * (
        size.rows * size.voxels * components
        + size.rows * components * size.outputs
        + size.unseen * size.rows * size.outputs
    )


def tell(size: Size, ours: Measurement, peer: Measurement | None, rate: float) -> list[Row]:
    """Seconds and memory of both sides."""
    rows = [
        Row(
            "one target",
            ours.seconds,
            "s",
            peer=peer and peer.seconds,
            floor=count_operations(size) / rate,
        ),
        Row(
            "one target: peak memory", ours.peak_gigabytes, "GB", peer=peer and peer.peak_gigabytes
        ),
    ]
    if ours.result.gpu_gigabytes:
        rows.append(Row("one target: peak memory of the GPU", ours.result.gpu_gigabytes, "GB"))
    return rows


def main(words: Sequence[str] | None = None) -> None:
    """Prints the table; writes the rows where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="slice")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--json", type=Path, help="where the rows go")
    parser.add_argument("--folder", type=Path, help="where the problem is written")
    options = parser.parse_args(words)
    size = SIZES[options.size]
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        problem = Problem(Path(folder), options.device)
        draw_problem(problem.folder, size)
        ours = measure(regress, problem, after=keep)
        peer = measure(regress_by_scikit_learn, problem, after=keep) if size.compared else None
    if peer:
        refuse_difference(ours.result, peer.result)
    rows = tell(size, ours, peer, measure_matrix_rate(options.device, torch.float64))
    device = describe_device(options.device)
    print(
        f"{device}, {torch.get_num_threads()} threads: {size.rows:,} x {size.voxels:,} voxels to "
        f"{size.outputs:,} outputs, penalty {ours.result.penalty:g}\n\n{format_table(rows)}"
    )
    if options.json:
        write_rows(options.json, rows, device=device)


if __name__ == "__main__":
    main()
