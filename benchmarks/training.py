"""How many steps of training a decoder takes per second, what a step must cost, what it holds.

    python benchmarks/training.py [--full] [--memory] [--threads N] [--json FILE]

Both sides train the same networks from equal weights on the same batches, on the same device: on a
CPU both in float32, on a GPU ours in bfloat16 and the released way in float16 with a scaled loss.
In float32 and without dropout both must show the same losses. The floor of a step is, for each of
its parts, the larger of its bytes over the bandwidth of a large copy and its operations over the
rate of a large matrix product, both measured here, added up.

The released mixer's blocks have no effect on what it returns. Ours leaves them out, the released
way computes and trains them; rows of residual_mlp show two networks of which nothing is left out.

With --memory: weights and peak memory of every training at full size, beside the paper's.
"""

import argparse
import gc
import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow_scripts"))

import neuraldiffuser.torchvision_schemas  # noqa: F401  before everything that loads torchvision

import numpy as np
import torch
from comparison import (
    Row,
    format_columns,
    format_number,
    format_table,
    write_rows,
)
from decoder_cases import (
    LAYERS,
    RESIDUAL,
    SHAPES,
    STAGES,
    SUBJECT,
    TARGETS,
    TRAININGS,
    Case,
    count_images,
)
from device_rates import (
    best_seconds,
    describe_device,
    measure_bandwidth,
    measure_matrix_rate,
)
from plain_training import as_released, train_plainly
from step_costs import Part, part_of_optimiser, parts_of_products, without_content
from teacher_networks import (
    CONVNEXT_XL,
    STABLE_DIFFUSION,
    autoencoder_maps,
    convnext_maps,
    viewer_of,
)
from torch import nn
from training_memory import compare_memory

from neuraldiffuser import runtime
from neuraldiffuser.config.decoder import Budget, LowLevel, Network, Prior, Recipe
from neuraldiffuser.config.root import Runtime
from neuraldiffuser.decoders.compilation import compile_networks
from neuraldiffuser.decoders.data import Batch, Trials, keep_on_device
from neuraldiffuser.decoders.fitting import make_losses, new_decoder
from neuraldiffuser.decoders.objectives import Losses, total_steps
from neuraldiffuser.decoders.optimisation import PRECISIONS, autocast
from neuraldiffuser.decoders.store import Decoder
from neuraldiffuser.decoders.training import Run, train
from neuraldiffuser.nsd import published_counts

TOLERANCE = 1e-3  # of losses, relative: AdamW's first steps magnify differences of rounding
STEPS_COMPARED = 6
STEPS_TO_WARM = 9
TAKEN_APART = (Case("text", "finetuning"),)  # whose floor is printed by part
EPOCHS = 3  # the first with MixCo, as in the released schedule a third of them is


@dataclass(frozen=True)
class Size:
    """Networks, tables and how many steps are timed how often.

    Attributes:
        recipe: sizes of the networks, and the batch.
        shapes: of one embedding, by target.
        voxels: by subject.
        trials: of each subject, and as many images.
        epoch: steps of each of the epochs that are timed.
        repeats: of the timed trainings.
        image_size: pixels a side of the images that teachers see.
        teachers: makes a network, by name.
    """

    recipe: Recipe
    shapes: dict[str, tuple[int, ...]]
    voxels: dict[str, int]
    trials: int
    epoch: int
    repeats: int
    image_size: int
    teachers: dict[str, Callable[[], nn.Module]]


@dataclass(frozen=True)
class Scene:
    """What is trained where."""

    size: Size
    device: str
    threads: int
    folder: Path

    @property
    def precision(self) -> str:
        """Of our forward passes."""
        return "bf16" if self.device == "cuda" else "fp32"

    @property
    def dtype(self) -> torch.dtype:
        """Of the matrix products of our forward passes."""
        return PRECISIONS[self.precision] or torch.float32

    def recipe(self, case: Case, *, precision: str, epoch: int) -> Recipe:
        """Sizes and settings of a training of ``EPOCHS`` epochs of ``epoch`` steps."""
        recipe = self.size.recipe
        batch = recipe.budget.batch_size
        mixed = 0 if case.target == "latent" else 0.34  # of the epochs: a third
        objective = recipe.objective.model_copy(update={"mixco_fraction": mixed})
        optimiser = recipe.optimiser.model_copy(
            update={"precision": precision, "warmup_fraction": 0.3}
        )
        changes = {
            "backbone": case.backbone,
            "objective": objective,
            "optimiser": optimiser,
            "budget": Budget(epochs=EPOCHS, samples_per_epoch=epoch * batch, batch_size=batch),
        }
        return recipe.model_copy(update=changes)

    def trials(self, case: Case) -> Trials:
        """Noise in the form of trials and targets, on the host."""
        generator = torch.Generator().manual_seed(0)
        count, voxels = self.size.trials, self.size.voxels
        shape = (count, *self.size.shapes[case.target])
        betas = {
            subject: torch.randn((count, voxels[subject]), generator=generator).half()
            for subject in case.subjects
        }
        return Trials(
            betas=betas,
            ids={subject: np.arange(count) for subject in betas},
            embedding=torch.randn(shape, generator=generator).half(),
            embedding_ids=np.arange(count),
        )


# --- both sides ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trained:
    """What one training showed: the losses of its steps, and the seconds that these took."""

    losses: list[float]
    seconds: float

    @property
    def rate(self) -> float:
        """Steps per second."""
        return len(self.losses) / self.seconds


Side = Callable[[Recipe], Trained]  # trains for the recipe's budget


def our_side(case: Case, scene: Scene, decoder: Decoder, on_host: Trials) -> Side:
    """The engine, as ``fitting.fit`` runs it; what it does before its first step does not count."""
    model = decoder.model.to(scene.device)
    trials = keep_on_device(on_host, scene.device, free=sys.maxsize)
    once = [compile_networks] if scene.device == "cuda" else []

    def side(recipe: Recipe) -> Trained:
        losses, started = make_losses(replace(decoder, recipe=recipe), trials), []

        def timed(batch: Batch, step: int, generator: torch.Generator) -> Losses:
            if not started:
                started.append(now(scene.device))
            return losses(batch, step, generator)

        run = Run(case.name, model, timed, trials, recipe)
        while once:
            once.pop()(replace(run, losses=losses))
        curve = train(run, path_to_checkpoint=scene.folder / "none", seconds=math.inf)
        return Trained(curve["loss"].tolist(), now(scene.device) - started[0])

    return side


def released_side(scene: Scene, decoder: Decoder, on_host: Trials) -> Side:
    """The released way, from a copy of the weights; in float16 unless the recipe is in fp32."""
    model = as_released(decoder.model).to(scene.device)

    def side(recipe: Recipe) -> Trained:
        half = recipe.optimiser.precision != "fp32"
        started = now(scene.device)
        with tensor_float32(enabled=half):
            shown = train_plainly(model, on_host, recipe, half=half)
        return Trained([step["loss"] for step in shown], now(scene.device) - started)

    return side


def both_sides(case: Case, scene: Scene, recipe: Recipe) -> tuple[Side, Side]:
    """Ours and the released way, from equal weights."""
    on_host = scene.trials(case)
    decoder = new_decoder(TARGETS[case.target], on_host, recipe)
    released = released_side(scene, decoder, on_host)  # copies before ours moves and compiles
    return our_side(case, scene, decoder, on_host), released


def now(device: str) -> float:
    """Seconds, once the device has done all that it was given."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


@contextmanager
def tensor_float32(*, enabled: bool) -> Iterator[None]:
    """Whether a GPU rounds products that are left in float32 to TF32, as the released code does."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = enabled
    yield
    torch.backends.cuda.matmul.allow_tf32 = before


def measure_difference(case: Case, scene: Scene) -> float:
    """Largest relative difference of the losses of the first steps, in float32 without dropout."""
    recipe = without_dropout(scene.recipe(case, precision="fp32", epoch=STEPS_COMPARED // EPOCHS))
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        ours, released = (side(recipe).losses for side in both_sides(case, scene, recipe))
    return max(abs(one - other) / abs(other) for one, other in zip(ours, released, strict=True))


def without_dropout(recipe: Recipe) -> Recipe:
    """The same networks, of which no unit is dropped."""
    network = recipe.network.model_copy(update={"dropout": 0, "input_dropout": 0})
    low_level = recipe.low_level.model_copy(update={"dropout": 0, "encoder_dropout": 0})
    return recipe.model_copy(update={"network": network, "low_level": low_level})


def compare(case: Case, scene: Scene, floor: float) -> Row:
    """Measures both sides in turn; their losses must agree."""
    difference = measure_difference(case, scene)
    assert difference < TOLERANCE, f"{case.name}: losses differ by {difference:.1e}"
    print(f"{case.name}: first losses agree within {difference:.0e}", flush=True)
    warm, recipe = (
        scene.recipe(case, precision=scene.precision, epoch=steps)
        for steps in (STEPS_TO_WARM // EPOCHS, scene.size.epoch)
    )
    sides = both_sides(case, scene, recipe)
    for side in sides:
        side(warm)
    rates = [[side(recipe).rate for side in sides] for _ in range(scene.size.repeats)]
    ours, released = (median(of_one) for of_one in zip(*rates, strict=True))
    return Row(case.name, ours, "steps/s", released, floor, is_rate=True)


# --- the floor -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rates:
    """What the device does at best: bytes and operations per second."""

    bandwidth: float
    matrix_rate: float

    def seconds(self, part: Part) -> float:
        """The larger of what a part's bytes and what its operations take."""
        return max(part.bytes / self.bandwidth, part.operations / self.matrix_rate)


def parts_of_step(case: Case, scene: Scene) -> list[Part]:
    """Every part of one of our steps that takes time on the device."""
    recipe = scene.recipe(case, precision=scene.precision, epoch=1)
    with without_content():
        trials = scene.trials(case)
        decoder = new_decoder(TARGETS[case.target], trials, recipe)
        losses = make_losses(decoder, trials)
        batch = trials.batch(0, size=recipe.budget.batch_size, seed=recipe.seed)

        def step() -> None:
            with autocast(torch.device("cpu"), recipe.optimiser.precision):
                loss = losses(batch, EPOCHS - 1, torch.Generator())["loss"]
            loss.backward()

        products = parts_of_products(decoder.model, step)
        gathered = sum(rows.numel() for rows in [*batch.voxels.values(), batch.target])
    gathering = Part("batch: half precision read, float32 written", 0, (2 + 4) * gathered)
    return [gathering, *products, part_of_optimiser(decoder.model)]


def format_parts(parts: Sequence[Part], rates: Rates) -> str:
    """A table of the parts of a step."""
    head = ["part of a step", "moved", "operations", "floor", "bound by"]
    body = []
    for part in parts:
        by_bytes = part.bytes / rates.bandwidth > part.operations / rates.matrix_rate
        body.append(
            [
                part.name,
                format_number(part.bytes / 1e6, "MB"),
                format_number(part.operations / 1e9, "GFLOP") if part.operations else "",
                format_number(1e3 * rates.seconds(part), "ms"),
                "bytes" if by_bytes else "operations",
            ]
        )
    total = format_number(1e3 * sum(map(rates.seconds, parts)), "ms")
    return format_columns(head, [*body, ["all", "", "", total, ""]])


# --- memory --------------------------------------------------------------------------------------


def measure_peak(case: Case, scene: Scene) -> int:
    """Most bytes that a few of our steps hold at once, without the tables of trials."""
    recipe = scene.recipe(case, precision=scene.precision, epoch=2)
    on_host = scene.trials(case)
    decoder = new_decoder(TARGETS[case.target], on_host, recipe)
    side = our_side(case, scene, decoder, on_host)
    torch.cuda.reset_peak_memory_stats()
    side(recipe)
    tables = [on_host.embedding, *on_host.betas.values()]
    return torch.cuda.max_memory_allocated() - sum(table.nbytes for table in tables)


# --- hours ---------------------------------------------------------------------------------------


def add_up(rows: dict[str, Row], trainings: dict[str, int], name: str) -> Row:
    """Hours of some trainings, each as often as told, at the released budget."""
    steps = total_steps(Budget())

    def hours(rate: Callable[[Row], float]) -> float:
        seconds = (count * steps / rate(rows[case]) for case, count in trainings.items())
        return sum(seconds) / 3600

    ours, released, floor = (
        hours(rate) for rate in (lambda r: r.value, lambda r: r.peer, lambda r: r.floor)
    )
    return Row(name, ours, "h", released, floor)


def estimate_hours(rows: Sequence[Row], views: dict[str, float]) -> Iterator[Row]:
    """One subject's decoders, each pretrained and finetuned with the released budget.

    Args:
        rows: steps per second of all trainings.
        views: seconds that each teacher takes for the images of a batch.
    """
    by_name = {row.name: row for row in rows}
    copies = {"text": 1, "layer": LAYERS}
    high_level = {case.name: copies[case.target] for case in TRAININGS if case.target in copies}
    yield add_up(by_name, high_level, "seven high-level decoders")
    alone = {case.name: 1 for case in TRAININGS if case.target == "latent"}
    latent = add_up(by_name, alone, "latent decoder, without its teacher")
    yield latent
    for teacher, seconds in views.items():
        yield from add_teacher(latent, teacher, seconds)


# --- the teacher ---------------------------------------------------------------------------------


def measure_view(network: nn.Module, scene: Scene) -> float:
    """Seconds in which a teacher turns the images of a batch into vectors."""
    side, batch = scene.size.image_size, scene.size.recipe.budget.batch_size
    viewer = viewer_of(network.to(scene.device), side, scene.precision)
    images = torch.rand(batch, 3, side, side, device=scene.device)
    return best_seconds(lambda: viewer.vectors(images)[0, 0, 0].item())


def add_teacher(latent: Row, teacher: str, seconds: float) -> Iterator[Row]:
    """Hours of the latent decoder with a teacher: clean images seen once, or at each step anew."""
    steps, batch = len(STAGES) * total_steps(Budget()), Budget().batch_size
    once = sum(count_images(case.subjects) for case in TRAININGS if case.target == "latent")
    name = f"latent decoder, {teacher} teacher, clean vectors"
    for views, kept in ((steps + once / batch, "kept"), (2 * steps, "made at each step")):
        yield Row(f"{name} {kept}", latent.value + views * seconds / 3600, "h")


# --- all of it -----------------------------------------------------------------------------------

SIZES = {
    "tiny": Size(
        recipe=Recipe(
            network=Network(hidden_size=32, blocks=2),
            prior=Prior(depth=1, head_size=4, rotary_size=4),
            low_level=LowLevel(
                maps_channels=8,
                upsampler_channels=(8, 8),
                upsampler_groups=4,
                teacher="none",
            ),
            budget=Budget(batch_size=14),
        ),
        shapes={"text": (5, 8), "layer": (4, 8), "latent": (4, 8, 8)},
        voxels={subject: count // 400 for subject, count in published_counts.VOXELS.items()},
        trials=50,
        epoch=10,
        repeats=1,
        image_size=64,
        teachers={
            "autoencoder": partial(autoencoder_maps, 8),
            "convnext": partial(convnext_maps, 8, (1, 1, 1, 1)),
        },
    ),
    "small": Size(
        recipe=Recipe(
            network=Network(hidden_size=384),
            prior=Prior(depth=2, head_size=32, rotary_size=16),
            low_level=LowLevel(
                maps_channels=32,
                upsampler_channels=(16, 32),
                upsampler_groups=4,
                teacher="none",
            ),
            budget=Budget(batch_size=42),
        ),
        shapes={"text": (8, 128), "layer": (5, 128), "latent": (4, 8, 8)},
        voxels={subject: count // 4 for subject, count in published_counts.VOXELS.items()},
        trials=500,
        epoch=10,
        repeats=3,
        image_size=64,
        teachers={
            "autoencoder": partial(autoencoder_maps, 16),
            "convnext": partial(convnext_maps, 32, (1, 1, 3, 1)),
        },
    ),
    "full": Size(
        recipe=Recipe(low_level=LowLevel(teacher="none")),
        shapes=SHAPES,
        voxels=published_counts.VOXELS,
        trials=2000,
        epoch=50,
        repeats=3,
        image_size=512,
        teachers={
            "autoencoder": partial(autoencoder_maps, STABLE_DIFFUSION),
            "convnext": partial(convnext_maps, *CONVNEXT_XL),
        },
    ),
}


def describe_set_up(scene: Scene, rates: Rates) -> str:
    """What is measured where."""
    size = scene.size
    precisions = {
        "cpu": f"Both sides in float32 on {scene.threads} CPU threads",
        "cuda": "Ours in bfloat16, the released way in float16 with a scaled loss",
    }
    lines = [
        f"{describe_device(scene.device)}: copies {rates.bandwidth / 1e9:,.1f} GB/s read and "
        f"written, multiplies {rates.matrix_rate / 1e12:,.3g} TFLOP/s.",
        f"Networks {size.recipe.network.hidden_size} wide, batches of "
        f"{size.recipe.budget.batch_size}, {SUBJECT} of {size.voxels[SUBJECT]:,} voxels; tables of "
        f"{size.trials:,} trials.",
        f"{precisions[scene.device]}, in turn; medians of {size.repeats}.",
        "Both sides must show equal first losses, in float32 without dropout. The released mixer's "
        "blocks have no effect on the output: ours leaves them out, the released way computes and "
        "trains them. In residual_mlp nothing is left out.",
    ]
    return "\n".join(lines)


def compare_all(scene: Scene) -> list[Row]:
    """Measures and prints everything but memory."""
    rates = Rates(measure_bandwidth(scene.device), measure_matrix_rate(scene.device, scene.dtype))
    print(describe_set_up(scene, rates), end="\n\n", flush=True)
    rows, parts = [], {}
    for case in (*TRAININGS, *RESIDUAL):
        parts[case] = parts_of_step(case, scene)
        rows.append(compare(case, scene, 1 / sum(map(rates.seconds, parts[case]))))
        gc.collect()
    views = {name: measure_view(make(), scene) for name, make in scene.size.teachers.items()}
    if scene.device == "cuda" and scene.size is SIZES["full"]:
        rows += estimate_hours(rows, views)
    for name, seconds in views.items():
        rows.append(Row(f"{name} teacher's view of a batch", 1e3 * seconds, "ms"))
    steps = [
        f"One step of {case.name}:\n\n{format_parts(parts[case], rates)}" for case in TAKEN_APART
    ]
    print("", format_table(rows), *steps, sep="\n\n")
    return rows


def run(scene: Scene, *, memory: bool, path_to_json: Path | None) -> None:
    """Measures and prints."""
    torch.set_num_threads(scene.threads)
    runtime._execution = runtime.Execution(device=scene.device, threads=scene.threads)
    if memory:
        scene = replace(scene, size=SIZES["full"])
        rows = compare_memory(
            partial(measure_peak, scene=scene) if scene.device == "cuda" else None
        )
    else:
        rows = compare_all(scene)
    if path_to_json:
        write_rows(path_to_json, rows, device=describe_device(scene.device))


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument(
        "--full", dest="size", action="store_const", const="full", help="networks of the real size"
    )
    parser.add_argument("--memory", action="store_true", help="weights and memory instead of time")
    parser.add_argument("--threads", type=int, default=Runtime().threads, help="of both sides")
    parser.add_argument("--json", type=Path, help="where the rows go")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        scene = Scene(
            size=SIZES[options.size],
            device="cuda" if torch.cuda.is_available() else "cpu",
            threads=options.threads,
            folder=Path(temporary),
        )
        run(scene, memory=options.memory, path_to_json=options.json)


if __name__ == "__main__":
    main()
