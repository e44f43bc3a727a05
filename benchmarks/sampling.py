"""How many seconds an image takes, guided and unguided, what it must take, and how much it holds.

    python benchmarks/sampling.py [--full] [--memory] [--threads N] [--json FILE]

Both sides reconstruct from the same embeddings and noise with the same networks, on the same
device: on a CPU both in float32, on a GPU ours in float16 and the released way with float32 weights
under autocast to float16. Ours takes all images at once, the released way one after the other
(``plain_sampling.py``). In float32 both must end at the same latents. The floor is the operations
that a reconstruction cannot do without, at the rate of a large matrix product measured here.

Without --full: the miniature's networks. With it, where there is a GPU: Stable Diffusion v1.4 and
ViT-B/32 at full size with random weights. With --memory, and with --full where there is none: no
time, but the operations and the memory of the full size, counted and traced on tensors without
content.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow_scripts"))
sys.path.insert(1, str(Path(__file__).resolve().parents[1] / "tests"))

import neuraldiffuser.torchvision_schemas  # noqa: F401  before everything that loads torchvision

import numpy as np
import torch
from comparison import GIGABYTE, Row, format_table, measure, write_rows
from decoder_cases import SHAPES
from device_rates import describe_device, measure_matrix_rate
from full_size_models import write_clip, write_stable_diffusion, write_unet
from plain_sampling import Given, Released, first_ratio, load_released, reconstruct_plainly
from sampling_memory import CARD, compare_memory
from sampling_passes import Passes, count_passes
from step_costs import count_operations

from neuraldiffuser import runtime
from neuraldiffuser.compilation import as_written
from neuraldiffuser.config.reconstruction import Reconstruction
from neuraldiffuser.config.root import Runtime
from neuraldiffuser.config.targets import ClipImageSettings
from neuraldiffuser.diffusion.embeddings import Embeddings
from neuraldiffuser.diffusion.guidance import GUIDANCE, Guidance
from neuraldiffuser.diffusion.loading import load_engine, name_sources, sum_guidance
from neuraldiffuser.diffusion.memory import GIB
from neuraldiffuser.diffusion.noise import draw_noise
from neuraldiffuser.diffusion.reconstruct import Engine, Guided, reconstruct
from neuraldiffuser.diffusion.sampler import Denoising, Guide, sample

MINIATURE = Path(__file__).resolve().parents[1] / "resources" / "mini_models"
CLIP_IMAGE = ClipImageSettings()  # as released
FEATURES = [f"clip_image_{layer:02d}" for layer in CLIP_IMAGE.layers]
STRENGTH = 0.2  # eta
RATIO = 0.5  # of guidance to denoiser in the first step of the first image
SEED = 0
COMPARED = 2  # images whose latents are compared
TOLERANCE = 1e-3  # of latents, in float32
NEAR, SHARE_NEAR = 2, 0.999  # of 255, and of the pixels that are as near, in float32
STEPS_HELD, IMAGES_HELD = 8, 64  # at most, of the reconstructions whose memory is measured


@dataclass(frozen=True)
class Size:
    """Networks, steps, and how many images are timed how often.

    Attributes:
        write_models: writes ``stable-diffusion`` and ``clip`` into a folder and returns theirs.
        shapes: of one image's text, layer and latent.
        steps: of a whole reverse diffusion.
        batch_size: of ours on a CPU, where every thread takes one batch.
        images_on_gpu: of ours there.
        images_of_peer: in turn with ours.
        rounds: of both.
    """

    write_models: Callable[[Path], Path]
    shapes: dict[str, tuple[int, ...]]
    steps: int
    batch_size: int
    images_on_gpu: int
    images_of_peer: int
    rounds: int


@dataclass(frozen=True)
class Way:
    """How images are reconstructed: guided with a strength eta and a scale kappa, or unguided."""

    name: str
    strength: float = 0.0
    scale: float = 0.0

    def count_guided(self, steps: int) -> int:
        """How many steps are guided."""
        return int(self.strength * steps)


UNGUIDED = Way("unguided")


@dataclass(frozen=True)
class Scene:
    """Everything that both sides share, and both sides, loaded when they are first asked for."""

    models: Path
    size: Size
    device: str
    threads: int
    precision: str

    @property
    def settings(self) -> Reconstruction:
        """As released."""
        return Reconstruction(
            steps=self.size.steps, batch_size=self.size.batch_size, precision=self.precision
        )

    @property
    def images(self) -> int:
        """Of ours in each round."""
        on_cpu = self.device == "cpu"
        return self.size.batch_size * self.threads if on_cpu else self.size.images_on_gpu

    @cached_property
    def engine(self) -> Engine:
        """Ours."""
        path = self.models / "stable-diffusion"
        return load_engine(path, self.settings, seed=SEED, device=self.device)

    @cached_property
    def function(self) -> Guidance:
        """What guides ours."""
        source = name_sources(
            self.engine,
            paths_to_models={"clip_image": self.models / "clip"},
            paths_to_encoder=(),
            clip_image=CLIP_IMAGE,
        )
        return GUIDANCE["clip_layers"](source)

    def guided(self, way: Way) -> Guided | None:
        """A way's guidance; None if it has none."""
        terms = {"clip_layers": way.scale} if way.strength else {}
        return sum_guidance({name: self.function for name in terms}, terms, strength=way.strength)

    @cached_property
    def released(self) -> Released:
        """The released way, its passes in half precision where ours are."""
        half = self.precision != "float32"
        return load_released(self.models, self.settings, CLIP_IMAGE, device=self.device, half=half)

    def embeddings(self, count: int) -> Embeddings:
        """Standard normal ones of some images, drawn image by image."""
        rngs = [np.random.default_rng((SEED, row)) for row in range(count)]

        def draw(kind: str) -> np.ndarray:
            shape = self.size.shapes[kind]
            return np.stack([rng.standard_normal(shape, dtype=np.float32) for rng in rngs])

        return Embeddings(
            ids=np.arange(count),
            latents=draw("latent"),
            texts=draw("text"),
            features={name: draw("layer") for name in FEATURES},
        )

    def noise(self, count: int) -> np.ndarray:
        """What ``reconstruct`` draws for the first repeat of some images."""
        samples = [(row, 0) for row in range(count)]
        return draw_noise(samples, seed=SEED, shape=self.size.shapes["latent"])

    def place(self, rows: np.ndarray) -> torch.Tensor:
        """Rows on the device."""
        return torch.from_numpy(rows).to(self.device)


# --- models --------------------------------------------------------------------------------------


def use_miniature(_folder: Path) -> Path:
    """The models that the repository ships."""
    return MINIATURE


def write_full_size(folder: Path) -> Path:
    """Stable Diffusion v1.4 and ViT-B/32 with random weights, in float32 as published."""
    path = write_stable_diffusion(folder / "stable-diffusion")
    write_unet(path / "unet", dtype=torch.float32)
    write_clip(folder / "clip", "ViT-B-32-quickgelu")
    return folder


# --- both sides ----------------------------------------------------------------------------------

Side = Callable[[Scene, Way, int], np.ndarray]


def ours(scene: Scene, way: Way, count: int) -> np.ndarray:
    """Images (n, h, w, 3) by the pipeline, in batches."""
    guided = scene.guided(way)
    images = reconstruct(scene.embeddings(count), scene.engine, repeats=1, guided=guided)
    return images[:, 0]


def released(scene: Scene, way: Way, count: int) -> np.ndarray:
    """Images (n, h, w, 3) one after the other."""
    images = [reconstruct_plainly(scene.released, one)[1] for one in given(scene, way, count)]
    return torch.cat(images).permute(0, 2, 3, 1).float().mul(255).round().byte().numpy()


def given(scene: Scene, way: Way, count: int) -> Iterator[Given]:
    """What the released way makes images from, one by one."""
    own, noise = scene.embeddings(count), scene.noise(count)
    for row in range(count):
        one = slice(row, row + 1)
        yield Given(
            latent=scene.place(own.latents[one]),
            noise=scene.place(noise[one]),
            condition=scene.place(own.texts[one]),
            features={name: scene.place(rows[one]) for name, rows in own.features.items()},
            scale=way.scale,
            guided_steps=way.count_guided(len(scene.released.levels.timesteps)),
        )


def our_latents(scene: Scene, way: Way, count: int) -> torch.Tensor:
    """Clean latents (n, c, h, w) of one batch by the pipeline's sampler."""
    own, engine = scene.embeddings(count), scene.engine
    targets = {name: scene.place(rows) for name, rows in own.features.items()}
    guided_steps = range(way.count_guided(len(engine.schedule.steps)))
    return sample(
        scene.place(own.latents),
        scene.place(scene.noise(count)),
        Denoising(engine.model, scene.place(own.texts), engine.settings),
        schedule=engine.schedule,
        guide=Guide(lambda images: way.scale * scene.function(images, targets), guided_steps),
    )


@torch.no_grad()
def our_image(scene: Scene, way: Way) -> torch.Tensor:
    """The first image, computed in this thread."""
    return scene.engine.model.decode(our_latents(scene, way, 1))


# --- comparing -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Costs:
    """What one side's image costs.

    Attributes:
        seconds: the median over rounds.
        operations: executed.
        gigabytes: held at most, by the whole process on a CPU, allocated on a GPU.
    """

    seconds: float
    operations: int
    gigabytes: float


def guide(scene: Scene) -> Way:
    """The guided way, by the scale at which guidance stands to the denoiser as RATIO."""
    (first,) = given(scene, UNGUIDED, 1)
    return Way("guided", STRENGTH, scale=RATIO / first_ratio(scene.released, first))


def refuse_difference(scene: Scene, way: Way) -> None:
    """Ends the benchmark where both sides' latents differ in float32; ours are made in a batch."""
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        one_by_one = [
            reconstruct_plainly(scene.released, one)[0] for one in given(scene, way, COMPARED)
        ]
        batch = our_latents(scene, way, COMPARED).cpu()
    difference = float((batch - torch.cat(one_by_one)).abs().max())
    assert difference < TOLERANCE, f"{way.name}: latents differ by {difference:.1e}"
    print(f"{way.name}: latents agree within {difference:.0e}", flush=True)


def measure_gigabytes(scene: Scene, side: Side, way: Way, count: int) -> float:
    """Memory at most while a side loads its networks and reconstructs in few steps."""
    short = replace(scene, size=replace(scene.size, steps=STEPS_HELD))
    work = partial(side, way=way, count=count)
    if scene.device == "cpu":
        return measure(work, short, before=prepare).peak_gigabytes
    with card_of_the_paper(scene):
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        work(short)
        return (torch.cuda.max_memory_allocated() - before) / GIGABYTE


@contextmanager
def card_of_the_paper(scene: Scene) -> Iterator[None]:
    """The GPU as if it had no more than 24 GiB."""
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(min(CARD / total, 1.0))
    runtime._execution = replace(execution_of(scene), gpu_memory_gb=CARD // GIB)
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)
    runtime._execution = execution_of(scene)


def measure_seconds(scene: Scene, side: Side, way: Way, count: int) -> tuple[float, np.ndarray]:
    """Seconds of one image, and the first image."""
    started = time.perf_counter()
    images = side(scene, way, count)
    return (time.perf_counter() - started) / count, images[0]


def compare(scene: Scene, way: Way, gigabytes: Sequence[float]) -> tuple[Costs, Costs]:
    """Measures ours and the released way in turn."""
    executed = count_executed(scene, way)
    if scene.device != "cpu":
        ours(scene, way, scene.images)  # chooses kernels and compiles for batches of that size
    sides = {ours: scene.images, released: scene.size.images_of_peer}
    rounds = [
        [measure_seconds(scene, side, way, count) for side, count in sides.items()]
        for _ in range(scene.size.rounds)
    ]
    refuse_other_images(scene, way, [image for _, image in rounds[0]])
    seconds = [median(each for each, _ in of_side) for of_side in zip(*rounds, strict=True)]
    return tuple(map(Costs, seconds, executed, gigabytes))


def count_executed(scene: Scene, way: Way) -> list[int]:
    """Operations of one image of both sides, which are loaded for it and run once."""
    with as_written(scene.engine.model.compiled_parts):  # operations are counted as they are called
        work = partial(our_image, scene, way), partial(released, scene, way, 1)
        return [count_operations(each) for each in work]


def refuse_other_images(scene: Scene, way: Way, images: Sequence[np.ndarray]) -> None:
    """Ends the benchmark where both sides' images of the first sample differ in float32."""
    near = float((np.abs(np.subtract(*images, dtype=int)) <= NEAR).mean())
    assert scene.precision != "float32" or near >= SHARE_NEAR, f"{way.name}: images differ"
    print(f"{way.name}: {near:.2%} of pixels within {NEAR} of 255", flush=True)


def count_needed(scene: Scene) -> Passes:
    """Operations of one pass through each of our networks."""
    model, own = scene.engine.model, scene.embeddings(1)
    condition, step = scene.place(own.texts), scene.engine.schedule.steps[0]
    return count_passes(
        denoise=lambda z: model.denoise(z, step.timestep, condition).noise,
        decode=model.decode,
        view=lambda image: sum(layer.sum() for layer in scene.function.network(image).values()),
        latent=scene.place(own.latents),
    )


# --- rows ----------------------------------------------------------------------------------------


def rows_of(way: Way, sides: tuple[Costs, Costs], needed: int, matrix_rate: float) -> Iterator[Row]:
    """Time, operations, their rate beside the device's, and memory."""
    own, peer = sides
    yield Row(f"{way.name}: an image", own.seconds, "s", peer.seconds, needed / matrix_rate)
    executed = (own.operations / 1e9, "GFLOP", peer.operations / 1e9, needed / 1e9)
    yield Row(f"{way.name}: operations of an image", *executed)
    rates = [side.operations / side.seconds / 1e9 for side in sides]
    name = f"{way.name}: operations as executed"
    yield Row(name, rates[0], "GFLOP/s", rates[1], matrix_rate / 1e9, is_rate=True)
    yield Row(f"{way.name}: peak memory", own.gigabytes, "GB", peer.gigabytes)


def compare_all(scene: Scene) -> list[Row]:
    """Measures and prints everything but the memory of the full size."""
    sides = {ours: min(scene.images, IMAGES_HELD), released: 1}
    # First of all, because a process that has computed with several threads cannot be forked.
    gigabytes = [
        [measure_gigabytes(scene, side, way, count) for side, count in sides.items()]
        for way in (UNGUIDED, Way("guided", STRENGTH, scale=1.0))
    ]
    prepare(scene)
    matrix_rate = measure_matrix_rate(scene.device, getattr(torch, scene.precision))
    print(describe_set_up(scene, matrix_rate), end="\n\n", flush=True)
    ways, passes = agree(replace(scene, precision="float32"))
    steps = len(scene.engine.schedule.steps)
    needed = [passes.image(steps=steps, guided_steps=way.count_guided(steps)) for way in ways]
    costs = [compare(scene, way, held) for way, held in zip(ways, gigabytes, strict=True)]
    rows = [
        row
        for one in zip(ways, costs, needed, strict=True)
        for row in rows_of(*one, matrix_rate=matrix_rate)
    ]
    rows.append(row_of_guidance(costs, needed))
    print("", format_table(rows), sep="\n")
    return rows


def agree(scene: Scene) -> tuple[list[Way], Passes]:
    """Both ways, their latents compared, and the operations of a pass."""
    ways = [UNGUIDED, guide(scene)]
    for way in ways:
        refuse_difference(scene, way)
    return ways, count_needed(scene)


def row_of_guidance(costs: Sequence[tuple[Costs, Costs]], needed: Sequence[int]) -> Row:
    """How much longer a guided image takes; as the floor, how many more operations it needs."""
    (own, peer), (own_guided, peer_guided) = costs
    return Row(
        "guided over unguided",
        own_guided.seconds / own.seconds,
        "times",
        peer_guided.seconds / peer.seconds,
        needed[1] / needed[0],
    )


# --- all of it -----------------------------------------------------------------------------------

OF_MINIATURE = {"text": (26, 96), "layer": (65, 80), "latent": (4, 16, 16)}
SIZES = {
    "tiny": Size(
        use_miniature,
        OF_MINIATURE,
        steps=8,
        batch_size=2,
        images_on_gpu=4,
        images_of_peer=1,
        rounds=1,
    ),
    "small": Size(
        use_miniature,
        OF_MINIATURE,
        steps=50,
        batch_size=16,
        images_on_gpu=64,
        images_of_peer=1,
        rounds=3,
    ),
    "full": Size(
        write_full_size,
        SHAPES,
        steps=50,
        batch_size=8,
        images_on_gpu=200,  # enough for the engine to compile
        images_of_peer=2,
        rounds=1,
    ),
}


def describe_set_up(scene: Scene, matrix_rate: float) -> str:
    """What is measured where."""
    size = scene.size
    steps = len(scene.engine.schedule.steps)
    precisions = {
        "cpu": f"Both sides in float32 on {scene.threads} CPU threads",
        "cuda": "Ours in float16, the released way with float32 weights under autocast to float16",
    }
    memories = {
        "cpu": "the whole process, its libraries included",
        "cuda": f"allocated, as if the card had {CARD / GIB:.0f} GiB",
    }
    lines = [
        f"{describe_device(scene.device)}: multiplies {matrix_rate / 1e12:,.3g} TFLOP/s.",
        f"{precisions[scene.device]}. {steps} of {size.steps} steps, {int(STRENGTH * steps)} of "
        f"them guided; {scene.images} images, {size.images_of_peer} of the released way, in turn; "
        f"medians of {size.rounds}.",
        "Both sides must end at equal latents, in float32. Floor: operations that a reconstruction "
        f"needs, at the rate of a matrix product. Memory: {memories[scene.device]}.",
    ]
    return "\n".join(lines)


def prepare(scene: Scene) -> None:
    """This process's threads and device."""
    torch.set_num_threads(scene.threads)
    runtime._execution = execution_of(scene)


def execution_of(scene: Scene) -> runtime.Execution:
    """Of a job."""
    return runtime.Execution(device=scene.device, threads=scene.threads)


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument(
        "--full", dest="size", action="store_const", const="full", help="models of the real size"
    )
    parser.add_argument(
        "--memory", action="store_true", help="operations and memory of the real size, not time"
    )
    parser.add_argument("--threads", type=int, default=Runtime().threads, help="of both sides")
    parser.add_argument("--json", type=Path, help="where the rows go")
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if options.memory or (options.size == "full" and device == "cpu"):
        rows = compare_memory()
    else:
        with tempfile.TemporaryDirectory() as temporary:
            scene = Scene(
                models=SIZES[options.size].write_models(Path(temporary)),
                size=SIZES[options.size],
                device=device,
                threads=options.threads,
                precision={"cpu": "float32", "cuda": "float16"}[device],
            )
            rows = compare_all(scene)
    if options.json:
        write_rows(options.json, rows, device=describe_device(device))


if __name__ == "__main__":
    main()
