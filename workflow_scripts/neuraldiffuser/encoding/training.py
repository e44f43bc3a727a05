"""Fitting an encoding model to a subject's training trials.

The loss is GNet's: squared errors summed over trials and voxels, plus the absolute readout weights.
All repeats of an image share one forward pass: their squared errors are the number of repeats times
the squared distance to their mean, up to a constant.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import pandas as pd
import torch

from neuraldiffuser import runtime
from neuraldiffuser.config.encoding import EncoderTrainingSettings, EncodingSettings, GnetSettings
from neuraldiffuser.decoders.checkpoints import Checkpoint, digest
from neuraldiffuser.decoders.splits import validation_ids
from neuraldiffuser.encoding.accuracy import correlate_voxels
from neuraldiffuser.encoding.gnet import Gnet
from neuraldiffuser.encoding.prediction import predict
from neuraldiffuser.errors import ConfigError, TrainingError
from neuraldiffuser.features import images as preprocessing
from neuraldiffuser.nsd.stimuli import read_images

IMAGES_AT_ONCE = 200  # that are held in full size


@dataclass(frozen=True)
class Responses:
    """A subject's responses to images.

    Attributes:
        images: (n, size, size, 3) uint8, as the network sees them.
        means: (n, voxels) float32, averaged over the repeats of each image.
        repeats: (n,) number of trials behind each mean.
    """

    images: np.ndarray
    means: np.ndarray
    repeats: np.ndarray


def read_small_images(path: Path | str, ids: np.ndarray, *, size: int) -> np.ndarray:
    """The stimuli with these 73k ids as the network sees them, in little more memory than theirs.

    Returns:
        (n, size, size, 3) uint8, by PIL's Lanczos filter.
    """
    images = np.empty((len(ids), size, size, 3), np.uint8)
    for start in range(0, len(ids), IMAGES_AT_ONCE):
        part = slice(start, start + IMAGES_AT_ONCE)
        images[part] = preprocessing.resize_with_lanczos(read_images(path, ids[part]), size)
    return images


def hold_out(ids: np.ndarray, *, unseen: np.ndarray, count: int, seed: int) -> np.ndarray:
    """A boolean mask of the training images that only watch the training.

    Args:
        ids: (n,) training images.
        unseen: (n,) mask of those that take no part at all; none of them watches.
        count: how many watch.
        seed: of their choice.

    Raises:
        ConfigError: fewer than two images would be left to train on.
    """
    others = ids[~unseen]
    if len(others) - count < 2:
        raise ConfigError(
            f"encoding.training.held_out_images is {count} beside {unseen.sum()} images of "
            f"decoder.validation_images, but there are only {len(ids)} training images; hold out "
            "fewer."
        )
    return np.isin(ids, validation_ids(others, count=count, seed=seed))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Inside, weights and dropout draw from ``seed``; global generators are left as they were."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


class Generators:
    """The states of torch's global generators, of which dropout draws.

    Args:
        device: torch device that is computed on.
    """

    def __init__(self, device: str) -> None:
        self.on_gpu = torch.device(device).type == "cuda"

    def state_dict(self) -> dict[str, Any]:
        """Where they are."""
        gpu = torch.cuda.get_rng_state() if self.on_gpu else None
        return {"cpu": torch.get_rng_state(), "gpu": gpu}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Puts them where they were."""
        torch.set_rng_state(state["cpu"].clone())
        if self.on_gpu:
            torch.cuda.set_rng_state(state["gpu"].clone())


def train_gnet(
    training: Responses,
    held_out: Responses,
    *,
    settings: EncodingSettings,
    seed: int,
    device: str,
    path_to_checkpoint: Path,
) -> tuple[Gnet, pd.DataFrame]:
    """Fits a GNet and returns it as it was in its best epoch.

    Args:
        training: images to fit.
        held_out: other training images, on which the best epoch is chosen.
        settings: sizes and training.
        seed: of weights, order and dropout.
        device: torch device.
        path_to_checkpoint: where to go on from after a kill; removed by the caller at the end.

    Returns:
        The encoder in evaluation mode, and the curve: epoch, loss (per trial and voxel, without
        the variance between repeats), held_out_correlation (mean over voxels).

    Raises:
        TrainingError: the loss is no longer finite, or the job's time is up.
    """
    plan = settings.training
    with seeded(seed):
        encoder = start_encoder(training, settings.network).to(device)
        optimiser = build_optimiser(encoder, plan)
        parts = {"encoder": encoder, "optimiser": optimiser, "generators": Generators(device)}
        identity = identity_of(training, held_out, settings=settings, seed=seed)
        checkpoint = Checkpoint(path_to_checkpoint, identity, parts)
        history = checkpoint.load() or {"curve": [], "best": {}}
        curve, best = history["curve"], history["best"]
        epochs = runtime.progress(
            range(len(curve), plan.epochs),
            total=plan.epochs,
            initial=len(curve),
            description="fitting the encoder",
            unit="epoch",
        )
        for epoch in epochs:
            started = monotonic()
            order = draw_order(len(training.images), seed=seed, epoch=epoch)
            loss = train_epoch(encoder, optimiser, training, order.split(plan.batch_size), plan)
            accuracy = float(measure_accuracy(encoder, held_out.images, held_out.means).mean())
            curve.append({"epoch": epoch, "loss": loss, "held_out_correlation": accuracy})
            best_epoch = find_best_epoch(curve)
            if best_epoch == epoch:
                best = deepcopy(encoder.state_dict())
            if epoch - best_epoch >= plan.patience or epoch + 1 == plan.epochs:
                break
            keep(checkpoint, {"curve": curve, "best": best}, seconds=monotonic() - started)
        encoder.load_state_dict(best)
    return encoder.eval(), pd.DataFrame(curve)


def keep(checkpoint: Checkpoint, history: Mapping[str, Any], *, seconds: float) -> None:
    """Saves where it is due; raises TrainingError where the time left ends within an epoch.

    Args:
        checkpoint: of the training.
        history: its curve and its best weights so far.
        seconds: that an epoch takes.
    """
    late = checkpoint.is_last(seconds)
    if late or checkpoint.is_due():
        checkpoint.save(history)
    if late:
        raise TrainingError(
            f"The encoder's training stopped in time after epoch {len(history['curve'])}, whose "
            "checkpoint is kept; run the same command again to go on."
        )


def identity_of(
    training: Responses, held_out: Responses, *, settings: EncodingSettings, seed: int
) -> str:
    """Digest of everything that a training starts from: code, settings, seed, responses."""
    text = "\n".join((settings.model_dump_json(), str(seed), runtime.execution().code))
    arrays = (
        array for some in (training, held_out) for array in (some.images, some.means, some.repeats)
    )
    return digest(text, [torch.from_numpy(array) for array in arrays])


def start_encoder(training: Responses, settings: GnetSettings) -> Gnet:
    """A GNet with fresh weights that is centred on the training images' mean colour."""
    encoder = Gnet(settings, voxels=training.means.shape[1])
    mean = training.images.mean(axis=(0, 1, 2), dtype=np.float64) / 255
    encoder.input_mean.copy_(torch.from_numpy(mean)[:, None, None])
    return encoder


def build_optimiser(encoder: Gnet, plan: EncoderTrainingSettings) -> torch.optim.Optimizer:
    """Adam with one step for the network and another for the voxels' readout."""
    network = [*encoder.prefilter.parameters(), *encoder.trunk.parameters()]
    return torch.optim.Adam(
        [
            {"params": network, "lr": plan.learning_rate},
            {"params": encoder.readout.parameters(), "lr": plan.readout_learning_rate},
        ]
    )


def draw_order(count: int, *, seed: int, epoch: int) -> torch.Tensor:
    """The order of the images in an epoch."""
    return torch.from_numpy(np.random.default_rng((seed, epoch)).permutation(count))


def train_epoch(
    encoder: Gnet,
    optimiser: torch.optim.Optimizer,
    training: Responses,
    batches: Sequence[torch.Tensor],
    plan: EncoderTrainingSettings,
) -> float:
    """One pass over the images; returns the mean loss per trial and voxel."""
    encoder.train()
    device, total = encoder.input_mean.device, 0.0
    for rows in batches:
        images = preprocessing.to_unit_range(training.images[rows]).to(device)
        loss = squared_error(
            encoder(images),
            torch.from_numpy(training.means[rows]).to(device),
            torch.from_numpy(training.repeats[rows]).to(device),
        )
        penalty = plan.weight_penalty * encoder.readout.weight.abs().sum()
        optimiser.zero_grad(set_to_none=True)
        (loss + penalty).backward()
        optimiser.step()
        total += loss.item()
    if not np.isfinite(total):
        raise TrainingError(
            "The encoder's loss is no longer finite; lower encoding.training.learning_rate."
        )
    return float(total / (training.repeats.sum() * training.means.shape[1]))


def squared_error(
    predicted: torch.Tensor, means: torch.Tensor, repeats: torch.Tensor
) -> torch.Tensor:
    """Squared errors summed over trials and voxels, less the squares between repeats.

    Args:
        predicted: (n, voxels).
        means: (n, voxels) over the repeats of each image.
        repeats: (n,) trials of each image.
    """
    return (repeats[:, None] * (predicted - means) ** 2).sum()


def measure_accuracy(encoder: Gnet, images: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Correlation over images of each voxel, (voxels,), as ``correlate_voxels`` gives it."""
    return correlate_voxels(predict(encoder.eval(), images), means)


def find_best_epoch(curve: Sequence[Mapping[str, float]]) -> int:
    """The first epoch with the highest held-out correlation."""
    return int(np.argmax([row["held_out_correlation"] for row in curve]))
