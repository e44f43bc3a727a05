"""What a file of targets costs: time, by the layout of its rows, and precision, by number format.

    python benchmarks/target_files.py [--size small|tiny] [--json FILE]

Layouts: ours, all rows in one block, beside HDF5 chunks of a few rows, from the page cache. Number
formats: the miniature's models on scenes that they were not trained on, beside float32 throughout.
An error is the root mean square over all values, in % of the target's standard deviation over
images.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow_scripts"))

import neuraldiffuser.torchvision_schemas  # noqa: F401  before everything that loads torchvision

import h5py
import numpy as np
import torch
from comparison import Row, describe_processor, format_table, write_rows

from neuraldiffuser.features import clip_image, clip_text, store, vae_latent
from neuraldiffuser.features.images import to_unit_range
from neuraldiffuser.mini.scenes import captions, draw_scenes

MODELS = Path(__file__).resolve().parents[1] / "resources" / "mini_models"
ROW = (50, 768)  # a CLIP image layer
CHUNKS = (1, 16, 256)
ROWS_WRITTEN_AT_ONCE = 256
LAYERS = (2, 12)  # the errors of those between lie between
SEED = 20_000  # of scenes that are no training's


@dataclass(frozen=True)
class Size:
    """Rows of a file, rows that are looked up, images that are embedded, and repeats."""

    rows: int
    looked_up: int
    images: int
    repeats: int


SIZES = {
    "tiny": Size(rows=512, looked_up=32, images=16, repeats=1),
    "small": Size(rows=8192, looked_up=1024, images=256, repeats=5),
}


# --- layouts -------------------------------------------------------------------------------------


def allocate(path: Path, size: Size, rows_of_a_chunk: int) -> None:
    """A file of targets as the workflow makes it (0), or in chunks."""
    if not rows_of_a_chunk:
        target = store.Target(path=path, shape=ROW, attributes={})
        store.allocate(path, target, np.arange(size.rows), "float16")
        return
    with h5py.File(path, "w") as file:
        chunks = (rows_of_a_chunk, *ROW)
        file.create_dataset("embedding", (size.rows, *ROW), np.float16, chunks=chunks)


def write(path: Path, size: Size) -> None:
    """All rows in order, until they are on the disk."""
    rows = np.full((ROWS_WRITTEN_AT_ONCE, *ROW), 0.5, np.float16)
    with h5py.File(path, "r+") as file:
        for start in range(0, size.rows, ROWS_WRITTEN_AT_ONCE):
            file["embedding"][start : start + ROWS_WRITTEN_AT_ONCE] = rows
        store.wait_for_disk(file)


def read_one_by_one(path: Path, size: Size) -> None:
    """Rows in random order."""
    with h5py.File(path) as file:
        for row in np.random.default_rng(0).permutation(size.rows)[: size.looked_up]:
            file["embedding"][row]


def read_a_list(path: Path, size: Size) -> None:
    """The same rows by one ascending list."""
    rows = np.sort(np.random.default_rng(0).permutation(size.rows)[: size.looked_up])
    with h5py.File(path) as file:
        file["embedding"][rows]


def measure_layout(folder: Path, size: Size, rows_of_a_chunk: int) -> dict[str, float]:
    """Rows per second of everything that is done with a file."""
    path = folder / f"{rows_of_a_chunk}.h5"

    def rate(work: Callable[[Path, Size], None], rows: int) -> float:
        started = time.perf_counter()
        work(path, size)
        return rows / (time.perf_counter() - started)

    rates: dict[str, list[float]] = {}
    for _ in range(size.repeats):
        allocate(path, size, rows_of_a_chunk)
        rates.setdefault("write", []).append(rate(write, size.rows))
        rates.setdefault("read one by one", []).append(rate(read_one_by_one, size.looked_up))
        rates.setdefault("read a list", []).append(rate(read_a_list, size.looked_up))
    path.unlink()
    return {name: median(found) for name, found in rates.items()}


def compare_layouts(size: Size) -> Iterator[Row]:
    """One block beside chunks of several sizes."""
    with tempfile.TemporaryDirectory() as folder:
        measure_layout(Path(folder), SIZES["tiny"], 0)  # warms up
        ours = measure_layout(Path(folder), size, 0)
        for rows_of_a_chunk in CHUNKS:
            chunked = measure_layout(Path(folder), size, rows_of_a_chunk)
            for name, rate in ours.items():
                beside = f"{name}, beside chunks of {rows_of_a_chunk}"
                yield Row(beside, rate, "rows/s", chunked[name], is_rate=True)


# --- number formats ------------------------------------------------------------------------------


@torch.inference_mode()
def embed_scenes(scenes: list, precision: str) -> dict[str, np.ndarray]:
    """Every target of the scenes, float32 (images, ...), computed in a number format."""
    dtype = getattr(torch, precision)
    images = np.stack([scene.image for scene in scenes])
    encoder = vae_latent.load_encoder(MODELS / "stable-diffusion" / "vae", dtype=dtype)
    latents = vae_latent.encode_latents(
        encoder,
        vae_latent.normalise_stimuli(torch.from_numpy(images), image_size=64, source_size=None),
        posterior="mode",
        draw=lambda: None,
    )
    text = clip_text.load_clip_text(MODELS / "stable-diffusion", dtype=dtype)
    wordings = clip_text.tokenise_captions(
        text, [captions(scene) for scene in scenes], selection="mean"
    )
    found = {"vae_latent": latents, "clip_text": clip_text.embed_captions(text, wordings)}
    for node in clip_image.NODES:
        clip = clip_image.load_clip_image(
            MODELS / "clip",
            node=node,
            normalisation="clip",
            antialias=True,
            layers=LAYERS,
            dtype=dtype,
        )
        features = clip(to_unit_range(torch.from_numpy(images)))
        found |= {f"clip_image, {node} {layer}": values for layer, values in features.items()}
    return {name: values.float().numpy() for name, values in found.items()}


def error(values: np.ndarray, exact: np.ndarray) -> float:
    """Root mean square of the differences, in % of the deviation over images."""
    exact = exact.astype(np.float64)
    return 100 * np.sqrt(((values - exact) ** 2).mean() / exact.var(axis=0).mean())


def measure_formats(size: Size) -> Iterator[Row]:
    """What storing, and computing, in half precision adds to each target."""
    scenes = draw_scenes(seed=SEED, scenes=range(size.images))
    exact = embed_scenes(scenes, "float32")
    stored = {name: values.astype(np.float16) for name, values in exact.items()}
    ways = {"stored in float16": stored}
    for precision in ("float16", "bfloat16"):
        ways[f"computed in {precision}"] = embed_scenes(scenes, precision)
    for way, found in ways.items():
        for name, values in found.items():
            yield Row(f"{name}, {way}: error", error(values, exact[name]), "%")


# --- all of it -----------------------------------------------------------------------------------


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--json", type=Path, help="where the rows go")
    options = parser.parse_args()
    size = SIZES[options.size]
    print(f"{describe_processor()}. {size.rows:,} rows of {ROW}; {size.images} scenes.\n")
    rows = [*compare_layouts(size), *measure_formats(size)]
    print(format_table(rows))
    if options.json:
        write_rows(options.json, rows, device=describe_processor())


if __name__ == "__main__":
    main()
