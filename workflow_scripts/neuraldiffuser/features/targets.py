"""What the targets are called, which images need them, and how each is computed.

Sources: the paper's Methods; released code HaoyyLi/NeuralDiffuser, src/img2feat_sd_pipe.py and
src/img2feat_guidance.py.
"""

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from neuraldiffuser import runtime, storage
from neuraldiffuser.config.targets import ClipTextSettings, VaeLatentSettings
from neuraldiffuser.errors import DataError
from neuraldiffuser.features import images as preprocessing
from neuraldiffuser.features import vae_latent
from neuraldiffuser.features.clip_image import ClipLayers
from neuraldiffuser.features.clip_text import (
    ClipText,
    Wordings,
    embed_captions,
    tokenise_captions,
)
from neuraldiffuser.features.pipeline import kernels_that_repeat, map_ahead
from neuraldiffuser.identity import canonical_json, code_id
from neuraldiffuser.models.pins import look
from neuraldiffuser.nsd.design import read_responses
from neuraldiffuser.nsd.stimuli import read_images

VAE_LATENT = "vae_latent"
CLIP_TEXT = "clip_text"

# Images that are computed together: as many as keep a layer's numbers in a CPU's cache, or a GPU
# busy without filling it, and no more than help.
LARGEST_BATCH = {"cpu": 16, "cuda": 128}
NUMBERS_OF_A_LAYER = {"cpu": 2**22, "cuda": 2**28}
USUAL_CAPTIONS = 5  # of an image
GPU_WORKERS = 2  # while one thread waits for its rows, the other's batch is being computed


def clip_image_target(layer: int) -> str:
    """The name of the target made of a CLIP image layer: clip_image_02 for 2."""
    return f"clip_image_{layer:02d}"


def target_names(layers: Sequence[int]) -> tuple[str, ...]:
    """Every target: the latent, the text, and one per CLIP image layer."""
    return (VAE_LATENT, CLIP_TEXT, *(clip_image_target(layer) for layer in layers))


def find_ids_in_use(
    paths_to_responses: Iterable[Path | str], *, sessions: Mapping[str, int]
) -> np.ndarray:
    """The 73k ids that any of the subjects saw in the sessions that are used, ascending.

    Args:
        paths_to_responses: each subject's responses.tsv in NSD's own layout
            (ppdata/{subject}/behav/responses.tsv).
        sessions: number of sessions to use, by subject.

    Raises:
        DataError: a file is missing or damaged, or a subject has no number of sessions.
    """
    seen = []
    for path in map(Path, paths_to_responses):
        subject = path.parts[-3]
        if subject not in sessions:
            raise DataError(f"{path} belongs to {subject}, which nsd.sessions does not list.")
        trials = read_responses(path)
        seen.append(trials.loc[trials["session"] <= sessions[subject], "id"].to_numpy())
    return np.unique(np.concatenate(seen))


def dtype_of(precision: str) -> torch.dtype:
    """The number format of a job's networks; says so where its device is slow at it."""
    if runtime.execution().device == "cpu" and precision != "float32":
        runtime.logger.warning(
            "Processors are several times slower in %s; on a machine without a GPU, set "
            "targets.precision to float32.",
            precision,
        )
    return getattr(torch, precision)


def describe_origin(stage: str, sources: Iterable[Path | str]) -> dict[str, Any]:
    """What an extraction's rows depend on beside its settings and model: code and source files."""
    return {"code": code_id(stage), "sources": {str(path): look(path) for path in sources}}


def describe_target(
    name: str, settings: Any, *, precision: str, paths_to_receipts: Iterable[Path | str]
) -> dict[str, str]:
    """A target file's attributes: its name, what made it, and the digests of its model's files.

    An unfinished file goes on only where all of them are the same.
    """
    digests = {
        f"{path.parent.name}/{path.stem}": storage.read_json(path)["sha256"]
        for path in map(Path, paths_to_receipts)
    }
    return {
        "target": name,
        "settings": settings.model_dump_json(),
        "precision": precision,
        "model": canonical_json(digests),
    }


def choose_batch_size(device: str, numbers: int) -> int:
    """Images of a batch, where each has so many numbers in the network's widest layer."""
    return max(1, min(LARGEST_BATCH[device], NUMBERS_OF_A_LAYER[device] // numbers))


@dataclass(frozen=True)
class Extraction:
    """How targets are computed: a function from batches of ids to their rows.

    Attributes:
        prepare: from 73k ids to whatever ``embed`` takes; runs ahead, on the host.
        embed: from that to {name: (n, *shape)}, on the device.
        device: where ``embed`` computes.
        batch_size: images that are computed together. Another size changes the last bits.
        dtype: of the rows.
    """

    prepare: Callable[[np.ndarray], Any]
    embed: Callable[[Any], Mapping[str, torch.Tensor]]
    device: str
    batch_size: int
    dtype: str

    def __call__(self, batches: Iterable[np.ndarray]) -> Generator[dict[str, np.ndarray]]:
        """Rows of each batch, computed ahead of whoever takes them."""
        threads = runtime.execution().threads
        prepared = map_ahead(self.prepare, batches, workers=threads)
        with kernels_that_repeat():
            yield from map_ahead(
                lambda batch: to_host(self.embed(batch), dtype=getattr(torch, self.dtype)),
                prepared,
                workers=threads if self.device == "cpu" else GPU_WORKERS,
            )


def to_host(rows: Mapping[str, torch.Tensor], *, dtype: torch.dtype) -> dict[str, np.ndarray]:
    """Tensors of any device as arrays; a GPU rounds and copies them beside its other work."""
    copies = {name: tensor.to("cpu", dtype, non_blocking=True) for name, tensor in rows.items()}
    if any(tensor.is_cuda for tensor in rows.values()):
        torch.cuda.current_stream().record_event().synchronize()
    return {name: copy.numpy() for name, copy in copies.items()}


def extract_vae_latents(
    autoencoder: nn.Module,
    path_to_stimuli: Path | str,
    *,
    settings: VaeLatentSettings,
    seed: int,
    dtype: str,
) -> Extraction:
    """From ids to {"vae_latent": (n, channels, height, width)}."""
    device = autoencoder.device.type
    shape = vae_latent.latent_shape(autoencoder, settings.image_size)
    sizes = {"image_size": settings.image_size, "source_size": settings.source_size}

    def prepare(ids: np.ndarray) -> tuple[np.ndarray, torch.Tensor]:
        stimuli = vae_latent.resize_stimuli(read_images(path_to_stimuli, ids), **sizes)
        return ids, preprocessing.place(stimuli, device)

    @torch.inference_mode()
    def embed(prepared: tuple[np.ndarray, torch.Tensor]) -> dict[str, torch.Tensor]:
        ids, stimuli = prepared
        latents = vae_latent.encode_latents(
            autoencoder,
            vae_latent.normalise_stimuli(stimuli, **sizes),
            posterior=settings.posterior,
            draw=lambda: vae_latent.draw_noise(ids, shape=shape, seed=seed),
        )
        return {VAE_LATENT: latents}

    widest = autoencoder.config.block_out_channels[0] * settings.image_size**2
    size = choose_batch_size(device, widest)
    return Extraction(prepare, embed, device=device, batch_size=size, dtype=dtype)


def extract_clip_texts(
    text: ClipText,
    captions: Mapping[int, Sequence[str]],
    *,
    settings: ClipTextSettings,
    dtype: str,
) -> Extraction:
    """From ids to {"clip_text": (n, tokens, width)}."""
    device = text.encoder.device.type

    def prepare(ids: np.ndarray) -> Wordings:
        of_images = [captions[id_73k] for id_73k in ids.tolist()]
        return tokenise_captions(text, of_images, selection=settings.captions)

    def embed(wordings: Wordings) -> dict[str, torch.Tensor]:
        return {CLIP_TEXT: embed_captions(text, wordings)}

    widest = USUAL_CAPTIONS * text.shape[0] * text.encoder.config.intermediate_size
    size = choose_batch_size(device, widest)
    return Extraction(prepare, embed, device=device, batch_size=size, dtype=dtype)


def extract_clip_images(clip: ClipLayers, path_to_stimuli: Path | str, *, dtype: str) -> Extraction:
    """From ids to {"clip_image_02": (n, tokens, width), ...}, all layers in one pass."""
    device = next(clip.parameters()).device.type

    def prepare(ids: np.ndarray) -> torch.Tensor:
        return preprocessing.place(read_images(path_to_stimuli, ids), device)

    @torch.inference_mode()
    def embed(stimuli: torch.Tensor) -> dict[str, torch.Tensor]:
        features = clip(preprocessing.to_unit_range(stimuli))
        return {clip_image_target(layer): tokens for layer, tokens in features.items()}

    widest = clip.shape[0] * clip.visual.transformer.resblocks[0].mlp.c_fc.out_features
    size = choose_batch_size(device, widest)
    return Extraction(prepare, embed, device=device, batch_size=size, dtype=dtype)
