"""Fitting a decoder: fresh on several subjects, or from a pretrained core on one.

Registry ``SCALINGS``: how high-level targets are standardised for the network.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from neuraldiffuser import runtime, storage
from neuraldiffuser.config.decoder import Recipe
from neuraldiffuser.decoders.architectures import HighLevelDecoder, build_decoder
from neuraldiffuser.decoders.compilation import compile_networks
from neuraldiffuser.decoders.data import Trials, keep_on_device
from neuraldiffuser.decoders.objectives import LossFunction, high_level_losses, low_level_losses
from neuraldiffuser.decoders.parallel import Share
from neuraldiffuser.decoders.store import Decoder, write_decoder
from neuraldiffuser.decoders.teachers import Sizes, TeacherFiles, load_teacher
from neuraldiffuser.decoders.training import Run, seed_of, train
from neuraldiffuser.errors import DataError
from neuraldiffuser.models.pins import look


def raw_targets(embedding: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean 0 and scale 1: targets as they are."""
    return torch.zeros(embedding.shape[1:]), torch.ones(embedding.shape[1:])


def standardised_targets(embedding: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and population deviation of each dimension over images; 1 where it is constant."""
    mean = embedding.mean(dim=0, dtype=torch.float64)
    square = sum((rows.double() - mean).square().sum(dim=0) for rows in embedding.split(256))
    deviation = (square / len(embedding)).sqrt()
    scale = torch.where(deviation > 0, deviation, 1.0)
    return mean.float().cpu(), scale.float().cpu()


BYTES_OF_ACTIVATIONS = 4 << 30  # more than any full-size decoder's at batch 42

SCALINGS: dict[str, Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]] = {
    "none": raw_targets,
    "per_dimension": standardised_targets,
}


def new_decoder(target: str, trials: Trials, recipe: Recipe) -> Decoder:
    """A decoder with random weights, drawn from the recipe's seed, for the trials' subjects."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(recipe.seed, len(trials.betas)))
        model = build_decoder(target, trials.shape, voxel_counts=trials.voxel_counts, recipe=recipe)
    if isinstance(model, HighLevelDecoder):
        mean, scale = SCALINGS[recipe.target_scaling](trials.embedding)
        model.mean.copy_(mean)
        model.scale.copy_(scale)
    return Decoder(
        model=model,
        target=target,
        shape=trials.shape,
        voxel_counts=trials.voxel_counts,
        validation_ids=np.empty(0, dtype=np.int64),
        recipe=recipe,
    )


def continue_from(path_to_pretrained: Path, trials: Trials, recipe: Recipe) -> Decoder:
    """The pretrained core with a random voxel encoder for the subject of ``trials``.

    Raises:
        DataError: the networks would differ in more than their voxel encoders.
    """
    tensors, description = storage.read_tensors(path_to_pretrained)
    fresh = new_decoder(description["target"], trials, recipe)
    core = {name: value for name, value in tensors.items() if not is_voxel_encoder(name)}
    own = fresh.model.state_dict()
    expected = {name: value.shape for name, value in own.items() if not is_voxel_encoder(name)}
    if {name: value.shape for name, value in core.items()} != expected:
        raise DataError(
            f"{path_to_pretrained} holds another architecture than the configuration describes; "
            "delete it and run the workflow again."
        )
    fresh.model.load_state_dict(own | core)
    return fresh


def is_voxel_encoder(name: str) -> bool:
    """Whether a weight belongs to one subject only."""
    return name.startswith("voxel_encoder.")


def fit(
    decoder: Decoder,
    trials: Trials,
    *,
    name: str,
    path_to_decoder: Path,
    path_to_curve: Path,
    paths_to_teacher: Sequence[Path | str] = (),
) -> None:
    """Trains ``decoder`` and writes its weights and its curve.

    Args:
        decoder: weights to start from.
        trials: what to train on.
        name: of the training, for progress and errors.
        path_to_decoder: the result; beside it lie, until the end, the checkpoint ``*.partial`` and
            what the teacher says of clean images, ``*.teacher``.
        path_to_curve: losses and learning rate of every step.
        paths_to_teacher: the stimuli and the weights of a teacher, where there is one.
    """
    decoder.model.to(runtime.execution().device)
    path_to_vectors = Path(f"{path_to_decoder}.teacher")
    teacher = (
        TeacherFiles(*map(Path, paths_to_teacher), path_to_vectors) if paths_to_teacher else None
    )
    losses = make_losses(decoder, trials, teacher)  # a teacher takes its memory first
    origin = "\n".join(look(path) for path in paths_to_teacher)
    run = Run(name, decoder.model, losses, trials, decoder.recipe, origin)
    free = bytes_left(run.model, free=free_bytes(run.device))
    run = replace(run, trials=keep_on_device(trials, run.device, free=free))
    if run.device.type == "cuda":
        compile_networks(run)
    path_to_checkpoint = Path(f"{path_to_decoder}.partial")
    curve = train(run, path_to_checkpoint=path_to_checkpoint)
    if Share.current().index:
        return
    storage.write_table(path_to_curve, curve)
    write_decoder(path_to_decoder, decoder)
    for path in (path_to_checkpoint, path_to_vectors):
        path.unlink(missing_ok=True)
    runtime.logger.info("%s: last loss %.4g", name, curve["loss"].iloc[-1])


def free_bytes(device: torch.device) -> int:
    """Bytes of memory that a training may still take on ``device``."""
    return sys.maxsize if device.type == "cpu" else torch.cuda.mem_get_info(device)[0]


def bytes_left(model: nn.Module, *, free: int) -> int:
    """Bytes that a training of ``model``, which lies there, leaves of ``free`` for trials."""
    trained = sum(weight.nbytes for weight in model.parameters() if weight.requires_grad)
    # gradients and AdamW's two moments in float32; a copy of the weights in the working precision
    return free - 4 * trained - BYTES_OF_ACTIVATIONS


def make_losses(
    decoder: Decoder, trials: Trials, files: TeacherFiles | None = None
) -> LossFunction:
    """The pipeline's losses, with the low-level teacher where there is one; ``files`` are its."""
    if isinstance(decoder.model, HighLevelDecoder):
        return high_level_losses(decoder.model, decoder.recipe)
    name = decoder.recipe.low_level.teacher
    if name == "none":
        return low_level_losses(decoder.model, decoder.recipe, None)
    if files is None:
        raise DataError(
            f"decoder.low_level.teacher is {name}, which needs the stimuli and its weights; give "
            "both or choose none."
        )
    teacher = load_teacher(
        files,
        decoder.recipe.low_level,
        ids=trials.embedding_ids,
        sizes=Sizes(latent=decoder.shape[1], maps=decoder.model.maps_shape[1:]),
        precision=decoder.recipe.optimiser.precision,
        device=runtime.execution().device,
    )
    return low_level_losses(decoder.model, decoder.recipe, teacher)
