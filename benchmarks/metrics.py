"""How fast reconstructions are measured: pixels, identification, and what networks see.

    python benchmarks/metrics.py [--full] [--json FILE]

Both sides go from images in memory to one value per image and repeat, on the same device, in
float32 and with as many threads (OMP_NUM_THREADS, or all cores). The peers' way is that of
MindEye's notebook: one metric at a time, the stimuli prepared and embedded again for every repeat,
loops over images. Correlations of features are in float64 on both sides. Both must give the same
values. Ours gives all of them at once; the peers' way computes each by a code of its own: PixCorr,
SSIM, SSIM of columns, MindEye's and Takagi's identification, and the consistency of repeats by a
loop over pairs. Beside all outputs stand the peers' own three alone (PixCorr, SSIM, MindEye's
identification), still against all of ours. The floor is, for pixels, reading the images once, and
else the operations at the rate of a large matrix product on this device.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow_scripts"))

import neuraldiffuser.torchvision_schemas  # noqa: F401  before everything that loads torchvision

import numpy as np
import plain_metrics
import torch
import torchvision
from comparison import Row, format_table, write_rows
from device_rates import describe_device, measure_bandwidth, measure_matrix_rate
from PIL import Image
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from neuraldiffuser import runtime
from neuraldiffuser.config.evaluation import NSD_NETWORKS, Judge
from neuraldiffuser.config.models import NetworkSettings
from neuraldiffuser.evaluation.correlation import correlate, standardise
from neuraldiffuser.evaluation.features import measure_networks
from neuraldiffuser.evaluation.identification import IDENTIFICATION
from neuraldiffuser.evaluation.metrics import detailed
from neuraldiffuser.evaluation.pixels import measure_pixels
from neuraldiffuser.features.images import MEANS_AND_DEVIATIONS
from neuraldiffuser.features.networks import load_network

Value = TypeVar("Value")
FIRST_RESIZE = 256
STIMULUS, RECONSTRUCTION = 425, 512  # pixels a side, as in NSD and of Stable Diffusion
TOLERANCE = 1e-4  # of a value of an image
MINDEYE, TAKAGI = detailed("identification", "mindeye"), detailed("identification", "takagi")
FIRST = "first resize"
OWN_THREE = (FIRST, "pixcorr", "ssim_2d", MINDEYE)
SHARE_OF_TIES = 1e-3  # of identification's mean: rounding decides between equal correlations


@dataclass(frozen=True)
class Size:
    """How many images there are, and how long their features."""

    images: int
    repeats: int
    at_once: int  # images of which pixels are compared in one call, so that they fit into memory
    metric_size: int
    features: dict[str, int]  # by node
    slow: int  # images that the peers' slowest loops see: SSIM of columns, Takagi's identification
    slice: int  # images that networks see
    networks: dict[str, Callable[[], nn.Module]]


def build_inception() -> nn.Module:
    """torchvision's Inception v3 with the weights' own range of inputs."""
    return torchvision.models.inception_v3(
        weights=None, aux_logits=True, transform_input=True, init_weights=False
    )


def build_swav() -> nn.Module:
    """A ResNet-50 that ends where it is read."""
    network = torchvision.models.resnet50(weights=None)
    network.fc = nn.Identity()
    return network


ALEXNET = {"alexnet": torchvision.models.alexnet}
TORCHVISION = ALEXNET | {
    "inception": build_inception,
    "efficientnet": torchvision.models.efficientnet_b1,
    "swav": build_swav,
}
NODES = {"AlexNet(2)": 184_512, "AlexNet(5)": 57_600, "Inception": 2048, "CLIP": 768}
SIZES = {
    "tiny": Size(6, 2, 4, 64, {"AlexNet(2)": 500, "CLIP": 64}, 2, 6, ALEXNET),
    "small": Size(60, 5, 60, 425, NODES, 4, 12, ALEXNET),
    "full": Size(1000, 5, 100, 425, NODES, 4, 40, TORCHVISION),
}


@dataclass(frozen=True)
class Compared:
    """Seconds of ours and of the peers' way, and the best that the device could do."""

    ours: float
    peer: float
    floor: float

    def __add__(self, other: "Compared") -> "Compared":
        return Compared(self.ours + other.ours, self.peer + other.peer, self.floor + other.floor)


@dataclass(frozen=True)
class Parts:
    """Seconds of ours for all outputs, and of the peers' way for each."""

    ours: float
    plain: dict[str, float]
    floor: float

    def compare(self, names: tuple[str, ...] | None = None) -> Compared:
        """All of ours beside the peers' seconds for some outputs, or for all."""
        chosen = (value for name, value in self.plain.items() if names is None or name in names)
        return Compared(self.ours, sum(chosen), self.floor)


def clock(work: Callable[[], Value]) -> tuple[float, Value]:
    """Seconds of a call and what it returns."""
    started = time.perf_counter()
    values = work()
    return time.perf_counter() - started, values


def refuse_difference(ours: dict[str, np.ndarray], peer: dict[str, np.ndarray], what: str) -> None:
    """Ends the benchmark where both sides do not measure the same, (n, repeats) by metric."""
    for name, values in peer.items():
        if name.endswith(("_mindeye", "_takagi")):
            difference, allowed = abs(values.mean() - ours[name].mean()), SHARE_OF_TIES
        else:
            difference, allowed = np.abs(values - ours[name]).max(), TOLERANCE
        assert difference < allowed, f"{what}, {name}: values differ by {difference}"


# --- images and features -------------------------------------------------------------------------


def draw_pictures(number: int, side: int, rng: np.random.Generator) -> np.ndarray:
    """Pictures with large and small structure, uint8 (number, side, side, 3)."""
    pictures = np.empty((number, side, side, 3), np.uint8)
    for picture in pictures:
        coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        grain = rng.integers(-16, 17, (side, side, 3), dtype=np.int16)
        large = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC))
        picture[:] = np.clip(large + grain, 0, 255)
    return pictures


def draw_images(number: int, repeats: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Stimuli (n, h, w, 3), and reconstructions (n, repeats, h', w', 3) half like them."""
    rng = np.random.default_rng(seed)
    stimuli = draw_pictures(number, STIMULUS, rng)
    other = draw_pictures(number * repeats, RECONSTRUCTION, rng)
    sides = (RECONSTRUCTION, RECONSTRUCTION)
    for row, picture in enumerate(stimuli):
        enlarged = np.asarray(Image.fromarray(picture).resize(sides, Image.Resampling.BICUBIC))
        own = other[row * repeats : (row + 1) * repeats]
        own[:] = own // 2 + enlarged // 2
    return stimuli, other.reshape(number, repeats, *other.shape[1:])


def draw_features(number: int, length: int, repeats: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Of stimuli (n, d), and of reconstructions (repeats, n, d) somewhat like them, in float32."""
    generator = torch.Generator().manual_seed(0)
    stimuli = torch.randn(number, length, generator=generator).relu()
    noise = torch.randn(repeats, number, length, generator=generator).relu_()
    return stimuli, noise.mul_(10).add_(stimuli)


# --- pixels --------------------------------------------------------------------------------------


def compare_pixels(size: Size) -> Parts:
    """Every metric of pixels from images on, some images after the other.

    The peers' loops see the first images only; their seconds are scaled to all.
    """
    ours, moved, plain = 0.0, 0, {}
    for seed, start in enumerate(range(0, size.images, size.at_once)):
        images = draw_images(min(size.at_once, size.images - start), size.repeats, seed=seed)
        seconds, found = clock(
            partial(measure_pixels, *images, sizes=(FIRST_RESIZE, size.metric_size))
        )
        plain = plain or measure_pixels_plainly(*images, found=found, size=size)
        ours += seconds
        moved += sum(part.nbytes for part in images)
    return Parts(ours, plain, moved / measure_bandwidth("cpu"))


def measure_pixels_plainly(
    stimuli: np.ndarray, reconstructions: np.ndarray, *, found: dict[str, np.ndarray], size: Size
) -> dict[str, float]:
    """Seconds for all images of each metric, each repeat as a set of its own."""
    preparing, pairs = clock(partial(prepare_repeats, stimuli, reconstructions))
    took = {FIRST: preparing / len(stimuli)}
    for name, (metric, number) in {
        "pixcorr": (plain_metrics.pixel_correlation, len(stimuli)),
        "ssim_2d": (plain_metrics.structure, len(stimuli)),
        "ssim_columns": (plain_metrics.structure_of_columns, size.slow),
    }.items():
        measure = partial(metric, size=size.metric_size)
        seconds, values = clock(partial(measure_repeats, measure, pairs, number))
        refuse_difference({name: found[name][:number]}, {name: values}, "pixels")
        took[name] = seconds / number
    repeats = torch.stack([reconstructed for _, reconstructed in pairs])
    seconds, values = clock(partial(plain_metrics.consistency, repeats, size=size.metric_size))
    refuse_difference(found, {"consistency": values}, "pixels")
    took["consistency"] = seconds / len(stimuli)
    return {name: seconds * size.images for name, seconds in took.items()}


def prepare_repeats(
    stimuli: np.ndarray, reconstructions: np.ndarray
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Each repeat with the stimuli, after the first resize."""
    return [
        (
            plain_metrics.prepare(stimuli, FIRST_RESIZE),
            plain_metrics.prepare(reconstructions[:, repeat], FIRST_RESIZE),
        )
        for repeat in range(reconstructions.shape[1])
    ]


def measure_repeats(
    metric: Callable[[torch.Tensor, torch.Tensor], np.ndarray],
    pairs: list[tuple[torch.Tensor, torch.Tensor]],
    number: int,
) -> np.ndarray:
    """A metric of the first images, repeat by repeat: (number, repeats)."""
    return np.stack([metric(first[:number], second[:number]) for first, second in pairs], axis=1)


# --- identification ------------------------------------------------------------------------------


def compare_identification(size: Size, length: int) -> Parts:
    """Both conventions from features on; Takagi's loop over the first rows, scaled to all."""
    features = draw_features(size.images, length, size.repeats)
    ours, found = clock(partial(identify, *features))
    stimuli, repeats = (part.numpy() for part in features)
    mindeye, shares = clock(
        lambda: np.stack([plain_metrics.identify(stimuli, repeat) for repeat in repeats], axis=1)
    )
    takagi, rows = clock(partial(plain_metrics.identify_by_rows, stimuli, repeats, size.slow))
    refuse_difference(found, {MINDEYE: shares}, f"identification of {length} features")
    refuse_difference(
        {TAKAGI: found[TAKAGI][: size.slow]},
        {TAKAGI: rows},
        f"identification of {length} features",
    )
    operations = 2 * size.images**2 * length * size.repeats
    floor = operations / measure_matrix_rate("cpu", torch.float64)
    return Parts(ours, {MINDEYE: mindeye, TAKAGI: takagi * size.images / size.slow}, floor)


def identify(stimuli: torch.Tensor, reconstructions: torch.Tensor) -> dict[str, np.ndarray]:
    """Both conventions, the stimuli standardised once."""
    own = standardise(stimuli)
    views = torch.stack([correlate(own, standardise(repeat)) for repeat in reconstructions])
    return {
        detailed("identification", name): convention(views).numpy()
        for name, convention in IDENTIFICATION.items()
    }


# --- networks ------------------------------------------------------------------------------------


def compare_network(size: Size, name: str, folder: Path, device: str) -> Compared:
    """From images to identification or distance of each node of a network of random weights."""
    settings = NSD_NETWORKS[name]
    measure = "distance" if name in ("efficientnet", "swav") else "identification"
    judges = [
        Judge(name=node, label=node, network=name, node=node, measure=measure, level="early")
        for node in settings.nodes
    ]
    images = draw_images(size.slice, size.repeats, seed=0)
    plain = write_weights(size.networks[name](), images[0], settings, folder / f"{name}.pth")
    plain = plain.to(device)
    network = load_network(
        settings, loader=LOADERS[name], path_to_weights=folder / f"{name}.pth", device=device
    )
    arguments = {"judges": judges, "first_resize_of": lambda _name: FIRST_RESIZE}
    ours, found = clock(partial(measure_networks, *images, load=lambda _name: network, **arguments))
    peer, expected = clock(
        partial(embed_plainly, *images, network=plain, settings=settings, measure=measure)
    )
    refuse_difference(found, expected, name)
    seen = size.slice * (1 + size.repeats)
    operations = count_operations(plain, settings.size) * seen
    return Compared(ours, peer, operations / measure_matrix_rate(device, torch.float32))


LOADERS = {
    "alexnet": "alexnet",
    "inception": "inception_v3",
    "efficientnet": "efficientnet_b1",
    "swav": "swav_resnet50",
}


def write_weights(
    network: nn.Module, stimuli: np.ndarray, settings: NetworkSettings, path: Path
) -> nn.Module:
    """Random weights, the norms' statistics those of the stimuli, so that features differ."""
    network.train()
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.momentum = None
    with torch.no_grad():
        network(plain_metrics.prepare(stimuli, settings.size))
    torch.save(network.state_dict(), path)
    return network.eval()


def embed_plainly(
    stimuli: np.ndarray,
    reconstructions: np.ndarray,
    *,
    network: nn.Module,
    settings: NetworkSettings,
    measure: str,
) -> dict[str, np.ndarray]:
    """Each node and each repeat by passes of its own, the stimuli among them."""
    mean, deviation = MEANS_AND_DEVIATIONS[settings.normalisation]
    device = next(network.parameters()).device
    compare = {"identification": plain_metrics.identify, "distance": plain_metrics.distance}
    found: dict[str, list[np.ndarray]] = {}
    for name, node in settings.nodes.items():
        metric = detailed(name, "mindeye") if measure == "identification" else name
        for repeat in range(reconstructions.shape[1]):
            pair = [
                plain_metrics.embed(
                    network,
                    node,
                    plain_metrics.prepare(images, FIRST_RESIZE, device),
                    size=settings.size,
                    mean=mean,
                    deviation=deviation,
                )
                for images in (stimuli, reconstructions[:, repeat])
            ]
            found.setdefault(metric, []).append(compare[measure](*pair))
    return {name: np.stack(values, axis=1) for name, values in found.items()}


def count_operations(network: nn.Module, side: int) -> float:
    """Floating-point operations of one image."""
    device = next(network.parameters()).device
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, side, side, device=device))
    return counter.get_total_flops()


# --- all of it -----------------------------------------------------------------------------------


def compare_all(size: Size, folder: Path, device: str) -> Iterator[Row]:
    """Every row of the benchmark."""
    pixels = compare_pixels(size)
    nodes = {name: compare_identification(size, length) for name, length in size.features.items()}
    parts = {"pixels": pixels} | {f"identification, {name}": node for name, node in nodes.items()}
    for name, part in parts.items():
        yield to_row(name, part.compare())
        for output, seconds in part.plain.items():
            yield Row(f"{name}: the peers' {output}", seconds, "s")
    for which, names in {"all outputs": None, "the peers' own three": OWN_THREE}.items():
        whole = sum((part.compare(names) for part in parts.values()), start=Compared(0, 0, 0))
        yield to_row(f"pixels and identification, {which}", whole)
    networks = {name: compare_network(size, name, folder, device) for name in size.networks}
    for name, compared in networks.items():
        yield to_row(f"network {name}", compared)
    yield to_row("networks", sum(networks.values(), start=Compared(0, 0, 0)))


def to_row(name: str, compared: Compared) -> Row:
    """Seconds of both sides."""
    return Row(name, compared.ours, "s", compared.peer, compared.floor)


def describe_set_up(size: Size, device: str) -> str:
    """What is measured where."""
    return "\n".join(
        [
            f"{describe_device(device)}.",
            f"{size.images} images x {size.repeats} repeats, stimuli of {STIMULUS} and "
            f"reconstructions of {RECONSTRUCTION} pixels, compared at {size.metric_size}; networks "
            f"of random weights see {size.slice} images x {size.repeats}.",
            f"The peers' loops over pixels see {min(size.at_once, size.images)} images, SSIM of "
            f"columns {size.slow} images and Takagi's identification {size.slow} stimuli: their "
            "seconds are scaled to all images.",
            f"Both sides in float32 on {torch.get_num_threads()} CPU threads, in turn; values "
            f"agree within {TOLERANCE:g}, identification on average within {SHARE_OF_TIES:g}.",
        ]
    )


def run(size: Size, path_to_json: Path | None) -> None:
    """Measures, prints the table."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    runtime._execution = runtime.Execution(device=device, threads=torch.get_num_threads())
    print(describe_set_up(size, device), end="\n\n", flush=True)
    whole_float32 = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
    with tempfile.TemporaryDirectory() as folder, whole_float32:
        rows = list(compare_all(size, Path(folder), device))
    print(format_table(rows))
    if path_to_json:
        write_rows(path_to_json, rows, device=describe_device(device))


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument(
        "--full", dest="size", action="store_const", const="full", help="1000 images, 10 GB"
    )
    parser.add_argument("--json", type=Path, help="where the rows go")
    options = parser.parse_args()
    torch.manual_seed(0)
    run(SIZES[options.size], options.json)


if __name__ == "__main__":
    main()
