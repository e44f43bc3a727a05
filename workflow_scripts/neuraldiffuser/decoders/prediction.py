"""From a trained decoder and a subject's voxels to decoded embeddings.

Registry ``TEST_AVERAGES``: where the repeats of an image are averaged.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from neuraldiffuser import runtime
from neuraldiffuser.config.decoder import PriorSampling
from neuraldiffuser.decoders.architectures import HighLevelDecoder
from neuraldiffuser.decoders.prior import SAMPLING_STEPS, cosine_schedule, draw_noise, sample
from neuraldiffuser.decoders.store import Decoder
from neuraldiffuser.nsd.repeats import average_repeats, count_trials
from neuraldiffuser.nsd.voxels import Trials

BATCH_SIZE = 64


@dataclass(frozen=True)
class Decoded:
    """Decoded embeddings, a row per image.

    Attributes:
        id: (n,) 73k ids.
        embedding: (n, *shape) float32.
        projection: (n, dims) float32; (n, 0) where no projector leads into the target's space.
    """

    id: np.ndarray
    embedding: np.ndarray
    projection: np.ndarray


@dataclass(frozen=True)
class Decoding:
    """How a decoder is applied: whose voxels, the sampling settings and the experiment's seed."""

    decoder: Decoder
    subject: str
    prior_sampling: PriorSampling
    seed: int


def decode_rows(decoding: Decoding, betas: np.ndarray, ids: np.ndarray) -> Decoded:
    """Decodes (n, voxels) rows; rows of equal id share the prior's noise."""
    starts = range(0, len(ids), BATCH_SIZE)
    bar = runtime.progress(starts, description=f"decoding {decoding.decoder.target}", unit="batch")
    parts = [
        _decode_batch(decoding, betas[start : start + BATCH_SIZE], ids[start : start + BATCH_SIZE])
        for start in bar
    ]
    embedding, projection = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Decoded(ids, embedding, projection)


@torch.no_grad()
def _decode_batch(
    decoding: Decoding, betas: np.ndarray, ids: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    model = decoding.decoder.model
    device = next(model.parameters()).device
    output = model({decoding.subject: torch.from_numpy(betas).to(device)})
    if not isinstance(model, HighLevelDecoder):
        return output.cpu().numpy(), np.empty((len(ids), 0), np.float32)
    tokens = sample_mean(decoding, output, ids) * model.scale + model.mean
    return tokens.cpu().numpy(), model.project(output).cpu().numpy()


def sample_mean(decoding: Decoding, brain: torch.Tensor, ids: np.ndarray) -> torch.Tensor:
    """Mean of the prior's draws for backbone tokens (n, T, D); noise by seed, id and draw."""
    prior, settings = decoding.decoder.model.prior, decoding.prior_sampling
    levels = cosine_schedule(decoding.decoder.recipe.prior.timesteps)
    steps = SAMPLING_STEPS[settings.prior_sampling](levels, settings.prior_steps)
    total = torch.zeros_like(brain)
    for draw in range(settings.prior_samples):
        shape = (len(steps), *brain.shape[1:])
        noise = draw_noise(ids, seed=decoding.seed, draw=draw, shape=shape)
        total = total + sample(prior, brain, noise.to(brain.device), steps)
    return total / settings.prior_samples


def average_voxels(decoding: Decoding, trials: Trials, missing_repeats: str) -> Decoded:
    """Decodes the mean of each image's trials."""
    ids, betas = trials.averaged(missing_repeats)
    return decode_rows(decoding, betas, ids)


def average_outputs(decoding: Decoding, trials: Trials, missing_repeats: str) -> Decoded:
    """Decodes every trial, then averages what comes out for each image."""
    decoded = decode_rows(decoding, trials.betas, trials.id)
    times = count_trials(trials.id, trials.repeat, missing_repeats=missing_repeats)
    rows = decoded.embedding.reshape(len(trials.id), -1)
    ids, embedding = average_repeats(rows, trials.id, times=times)
    return Decoded(
        id=ids,
        embedding=embedding.reshape(len(ids), *decoded.embedding.shape[1:]),
        projection=average_repeats(decoded.projection, trials.id, times=times)[1],
    )


TEST_AVERAGES: dict[str, Callable[[Decoding, Trials, str], Decoded]] = {
    "voxels": average_voxels,
    "outputs": average_outputs,
}


def select_trials(trials: Trials, ids: np.ndarray) -> Trials:
    """The trials whose image is among ``ids``."""
    chosen = np.isin(trials.id, ids)
    rows = {name: getattr(trials, name)[chosen] for name in ("betas", "id", "repeat", "session")}
    return replace(trials, **rows)
