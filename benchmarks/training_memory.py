"""Weights and peak memory of every full-size training, beside the paper's and its card.

All but the tables is traced: whole steps are followed on tensors without content. Tables that do
not fit beside them are streamed from the host, by the rule of the engine.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from comparison import GIGABYTE, Row, format_columns, format_number
from decoder_cases import SHAPES, TARGETS, TRAININGS, Case, count_images, count_trials
from step_costs import FLOAT32, trace_peak, without_content
from teacher_networks import CONVNEXT_XL, convnext_maps, viewer_of
from torch import nn

from neuraldiffuser.config.decoder import LowLevel, Recipe
from neuraldiffuser.decoders.architectures import count_parameters
from neuraldiffuser.decoders.data import Trials, keep_on_device
from neuraldiffuser.decoders.fitting import bytes_left, make_losses, new_decoder
from neuraldiffuser.decoders.objectives import LossFunction, low_level_losses
from neuraldiffuser.decoders.optimisation import make_optimiser
from neuraldiffuser.decoders.store import Decoder
from neuraldiffuser.decoders.training import Run, TrainingStep
from neuraldiffuser.nsd import published_counts

PAPER = {  # millions of weights, subj01
    ("text", "finetuning"): 497.9,
    ("text", "pretraining"): 845.9,
    ("layer", "finetuning"): 412.9,
    ("layer", "pretraining"): 760.9,
}
CARD = 24 * GIGABYTE  # of the paper
CONTEXT = 0.6 * GIGABYTE  # of it that CUDA and its libraries take
RECIPE = Recipe(low_level=LowLevel(teacher="convnext"))


@dataclass(frozen=True)
class Memory:
    """What one training takes, in bytes where nothing else is said.

    Attributes:
        case: the training.
        weights: their number.
        trained: number of those that are trained.
        peak: of a whole step, traced, without tables.
        measured: the same on the device; None without one.
        tables: of trials and of targets.
        streamed: names of the tables that stay on the host beside a card of 24 GB.
    """

    case: Case
    weights: int
    trained: int
    peak: int
    measured: int | None
    tables: dict[str, int]
    streamed: list[str]


def trace_training(case: Case) -> int:
    """Peak bytes of two of our steps with their optimiser, and of the teacher they are shown."""
    teacher = teacher_of_latent()

    def make_step() -> Callable[[], None]:
        trials = empty_trials(case, rows=2)
        decoder = new_decoder(TARGETS[case.target], trials, RECIPE)
        losses = losses_of(decoder, trials, teacher)
        compute = TrainingStep(Run(case.name, decoder.model, losses, trials, RECIPE))
        optimiser = make_optimiser(decoder.model, RECIPE.optimiser)

        def step() -> None:
            loss = compute(0)["loss"]
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()

        return step

    return trace_peak(make_step)


def losses_of(decoder: Decoder, trials: Trials, network: nn.Module) -> LossFunction:
    """The pipeline's losses; the latent's with a teacher that sees by ``network``."""
    if decoder.target != TARGETS["latent"]:
        return make_losses(decoder, trials)
    side = 512
    viewer = viewer_of(network.to_empty(device="cpu"), side, RECIPE.optimiser.precision)

    def teacher(ids: np.ndarray, *_: object) -> tuple[torch.Tensor, torch.Tensor]:
        views = viewer.vectors(torch.empty(len(ids), 3, side, side))
        return torch.empty_like(views), views

    return low_level_losses(decoder.model, decoder.recipe, teacher)


def empty_trials(case: Case, *, rows: int) -> Trials:
    """The right shapes with few rows."""
    betas = {
        subject: torch.empty(rows, published_counts.VOXELS[subject], dtype=torch.half)
        for subject in case.subjects
    }
    return Trials(
        betas=betas,
        ids={subject: np.arange(rows) for subject in betas},
        embedding=torch.empty(rows, *SHAPES[case.target], dtype=torch.half),
        embedding_ids=np.arange(rows),
    )


def whole_trials(case: Case) -> Trials:
    """All trials and targets of NSD by their shapes; every row is the same zeros."""
    zeros = torch.zeros((), dtype=torch.half)
    shapes = {s: (count_trials(s), published_counts.VOXELS[s]) for s in case.subjects}
    images = count_images(case.subjects)
    return Trials(
        betas={subject: zeros.expand(shape) for subject, shape in shapes.items()},
        ids={subject: np.arange(count) for subject, (count, _) in shapes.items()},
        embedding=zeros.expand(images, *SHAPES[case.target]),
        embedding_ids=np.arange(images),
    )


def follow(case: Case, measure: Callable[[Case], int] | None) -> Memory:
    """Everything that is known of one training's memory."""
    with without_content():
        model = new_decoder(TARGETS[case.target], empty_trials(case, rows=2), RECIPE).model
    trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    trials = whole_trials(case)
    placed = keep_on_device(trials, "meta", free=bytes_left_on_card(case, model))
    tables = {"targets": trials.embedding, **trials.betas}
    where = {"targets": placed.embedding, **placed.betas}
    return Memory(
        case=case,
        weights=count_parameters(model),
        trained=trained,
        peak=trace_training(case),
        measured=measure(case) if measure else None,
        tables={name: table.nbytes for name, table in tables.items()},
        streamed=[name for name, table in where.items() if table.device.type != "meta"],
    )


def bytes_left_on_card(case: Case, model: nn.Module) -> int:
    """What trials may take of a card of 24 GB that already holds model and teacher."""
    weights = FLOAT32 * count_parameters(model)
    if case.target == "latent":
        weights += FLOAT32 * count_parameters(teacher_of_latent())
    return bytes_left(model, free=int(CARD - CONTEXT - weights))


def teacher_of_latent() -> nn.Module:
    """VICRegL's ConvNeXt-XL by its shapes."""
    with torch.device(
        "meta"
    ):  # timm reads numbers while it builds, which fake tensors have none of
        return convnext_maps(*CONVNEXT_XL)


def compare_memory(measure: Callable[[Case], int] | None) -> list[Row]:
    """Prints the table of all trainings and returns its numbers.

    Args:
        measure: trains a case for some steps and returns the peak that the device tells; None
            without a device.
    """
    found = [follow(case, measure) for case in TRAININGS]
    print(describe(), format_memory(found), sep="\n\n")
    return [row for memory in found for row in rows_of(memory)]


def rows_of(memory: Memory) -> Iterator[Row]:
    """Weights beside the paper's, and memory beside its card's."""
    name, paper = memory.case.name, paper_of(memory.case)
    yield Row(f"{name}: weights", memory.weights / 1e6, "M", peer=paper)
    yield Row(f"{name}: step, traced", memory.peak / GIGABYTE, "GB", peer=CARD / GIGABYTE)
    if memory.measured:
        yield Row(f"{name}: step, measured", memory.measured / GIGABYTE, "GB", CARD / GIGABYTE)
    whole = together(memory) / GIGABYTE
    yield Row(f"{name}: with what is resident", whole, "GB", peer=CARD / GIGABYTE)


def paper_of(case: Case) -> float | None:
    """Millions of weights that the paper tells."""
    return PAPER.get((case.target, case.stage))


def together(memory: Memory) -> float:
    """Bytes on a card of 24 GB: the step, the tables that stay beside it, the context."""
    resident = sum(size for name, size in memory.tables.items() if name not in memory.streamed)
    return memory.peak + resident + CONTEXT


def describe() -> str:
    """What the table holds."""
    return (
        f"One step of each training of {RECIPE.budget.batch_size} trials in "
        f"{RECIPE.optimiser.precision}, without tables, traced: weights, gradients and AdamW's "
        "moments in float32, activations; for the latent also the teacher, VICRegL's ConvNeXt-XL, "
        "which is not in what is measured. Tables in "
        "float16; what is streamed stays on the host by the engine's rule for a card of "
        f"{CARD / GIGABYTE:.0f} GB, of which CUDA itself takes {CONTEXT / GIGABYTE:.1f}."
    )


def format_memory(found: Sequence[Memory]) -> str:
    """A table of all trainings."""
    head = [
        "",
        "weights",
        "paper",
        "trained",
        "step, traced",
        "step, measured",
        "betas",
        "targets",
        "streamed",
        "on a card of 24 GB",
    ]
    gigabytes = partial(format_number, unit="GB")
    body = [
        [
            memory.case.name,
            f"{memory.weights / 1e6:.1f} M",
            f"{paper} M" if (paper := paper_of(memory.case)) else "",
            f"{memory.trained / 1e6:.1f} M",
            gigabytes(memory.peak / GIGABYTE),
            gigabytes(memory.measured and memory.measured / GIGABYTE),
            gigabytes(sum(memory.tables.values()) / GIGABYTE - memory.tables["targets"] / GIGABYTE),
            gigabytes(memory.tables["targets"] / GIGABYTE),
            ", ".join(memory.streamed) or "nothing",
            gigabytes(together(memory) / GIGABYTE),
        ]
        for memory in found
    ]
    return format_columns(head, body)
