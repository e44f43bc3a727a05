"""What the targets are called, which images need them, and how each is computed.

Sources: the paper's Methods; released code HaoyyLi/NeuralDiffuser, src/img2feat_sd_pipe.py and
src/img2feat_guidance.py.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from neuraldiffuser import provenance
from neuraldiffuser.config.targets import ClipTextSettings, VaeLatentSettings
from neuraldiffuser.errors import DataError
from neuraldiffuser.features import images as preprocessing
from neuraldiffuser.features import vae_latent
from neuraldiffuser.features.clip_image import ClipLayers
from neuraldiffuser.features.clip_text import ClipText, embed_captions
from neuraldiffuser.identity import code_id
from neuraldiffuser.nsd.design import read_responses

VAE_LATENT = "vae_latent"
CLIP_TEXT = "clip_text"
PIECE = 256  # rows between two points from which a killed extraction goes on
BATCH_SIZE = 32  # larger ones leave the cache and are slower on CPUs
AUTOENCODER_PIXELS = 2**21  # of a batch: 8 images of 512 pixels

ReadImages = Callable[[np.ndarray], np.ndarray]
Compute = Callable[[np.ndarray], Mapping[str, np.ndarray]]


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


def describe_origin(stage: str, sources: Iterable[Path | str]) -> dict[str, Any]:
    """What an extraction's rows depend on beside its settings: its code and its source files."""
    described = {str(path): os.stat(path) for path in sources}
    return {
        "code": code_id(stage),
        "sources": {path: [stat.st_size, stat.st_mtime_ns] for path, stat in described.items()},
    }


def describe_target(name: str, settings: Any, path_to_weights: Path | str) -> dict[str, str]:
    """A target file's attributes: its name, its settings and the digest of its model's weights."""
    return {
        "target": name,
        "settings": settings.model_dump_json(),
        "weights": provenance.digest_file(Path(path_to_weights)),
    }


def compute_vae_latents(
    autoencoder: nn.Module, read_images: ReadImages, *, settings: VaeLatentSettings, seed: int
) -> Compute:
    """A function from ids to {"vae_latent": float32 (n, channels, height, width)}."""
    shape = vae_latent.latent_shape(autoencoder, settings.image_size)

    def embed(ids: np.ndarray) -> dict[str, torch.Tensor]:
        images = vae_latent.prepare_images(
            read_images(ids), image_size=settings.image_size, source_size=settings.source_size
        )
        latents = vae_latent.encode_latents(
            autoencoder,
            images,
            posterior=settings.posterior,
            draw=lambda: vae_latent.draw_noise(ids, shape=shape, seed=seed),
        )
        return {VAE_LATENT: latents}

    return in_batches(embed, max(1, min(BATCH_SIZE, AUTOENCODER_PIXELS // settings.image_size**2)))


def compute_clip_texts(
    text: ClipText, captions: Mapping[int, Sequence[str]], *, settings: ClipTextSettings
) -> Compute:
    """A function from ids to {"clip_text": float32 (n, tokens, width)}."""

    def embed(ids: np.ndarray) -> dict[str, torch.Tensor]:
        chosen = [captions[int(id_73k)] for id_73k in ids]
        return {CLIP_TEXT: embed_captions(text, chosen, selection=settings.captions)}

    return in_batches(embed, BATCH_SIZE)


def compute_clip_images(clip: ClipLayers, read_images: ReadImages) -> Compute:
    """A function from ids to {"clip_image_02": float32 (n, tokens, width), ...}."""
    device = next(clip.parameters()).device

    @torch.no_grad()
    def embed(ids: np.ndarray) -> dict[str, torch.Tensor]:
        images = preprocessing.to_unit_range(read_images(ids)).to(device)
        return {clip_image_target(layer): features for layer, features in clip(images).items()}

    return in_batches(embed, BATCH_SIZE)


def in_batches(embed: Callable[[np.ndarray], Mapping[str, torch.Tensor]], size: int) -> Compute:
    """``embed`` on at most ``size`` ids at a time, its results joined as float32 arrays."""

    def compute(ids: np.ndarray) -> dict[str, np.ndarray]:
        parts = [embed(ids[start : start + size]) for start in range(0, len(ids), size)]
        return {
            name: torch.cat([part[name] for part in parts]).float().cpu().numpy()
            for name in parts[0]
        }

    return compute
