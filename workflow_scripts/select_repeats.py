"""Chooses one repeat of every image of a variant by what was decoded of it, not by its stimulus.

In: a variant's shards of a subject, the subject's decoded CLIP layers, the stimuli's (of held-out
training images alone), the CLIP image tower. Out: similarity of every repeat, and which is chosen.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from neuraldiffuser import runtime, storage
from neuraldiffuser.config.targets import ClipImageSettings
from neuraldiffuser.diffusion.compatibility import refuse_strangers
from neuraldiffuser.diffusion.embeddings import EmbeddingFile, name_targets
from neuraldiffuser.diffusion.selection import choose_repeats, rate_repeats
from neuraldiffuser.diffusion.store import read_reconstructions
from neuraldiffuser.diffusion.variants import average_held_out
from neuraldiffuser.features.clip_image import ClipLayers, load_clip_image
from neuraldiffuser.features.pipeline import kernels_that_repeat
from neuraldiffuser.features.targets import clip_image_target


def select_repeats(
    *,
    paths_to_reconstructions: Sequence[Path | str],
    paths_to_decoded: Sequence[Path | str],
    paths_to_stimuli: Sequence[Path | str],
    path_to_weights: Path | str,
    paths_to_receipts: Sequence[Path | str],
    path_to_selection: Path | str,
    clip_image: ClipImageSettings,
    by: str,
) -> None:
    """Writes a row per image and repeat: id, repeat, similarity, chosen.

    Args:
        paths_to_reconstructions: shards.
        paths_to_decoded: embeddings/{target}/{subject}.h5 of the CLIP layers.
        paths_to_stimuli: embeddings/{target}/stimulus.h5, for the mean over held-out training
            images; nothing else is read of them.
        path_to_weights: open_clip_model.safetensors of the CLIP image tower, its config beside it.
        paths_to_receipts: of its files, with their digests.
        path_to_selection: where the table goes.
        clip_image: what the CLIP layers are.
        by: a key of ``selection.SIMILARITIES``.
    """
    for paths in (paths_to_decoded, paths_to_stimuli):
        refuse_strangers(paths, clip_image=clip_image, paths_to_receipts=paths_to_receipts)
    network = load_clip_image(
        Path(path_to_weights).parent,
        node=clip_image.node,
        normalisation=clip_image.normalisation,
        antialias=clip_image.antialias,
        layers=clip_image.layers,
        device=runtime.execution().device,
    )
    means = {
        target: _place(average_held_out(EmbeddingFile(path)))
        for target, path in name_targets(paths_to_stimuli).items()
    }
    ids, similarities = [], []
    shards = runtime.progress(paths_to_reconstructions, description="rates repeats", unit="shard")
    with kernels_that_repeat(), torch.inference_mode():
        for path in shards:
            some, images = read_reconstructions([path])
            decoded = {
                target: _place(EmbeddingFile(file).read("test", some))
                for target, file in name_targets(paths_to_decoded).items()
            }
            found = rate_repeats(images, decoded, means, look=partial(_look, network), by=by)
            ids.append(some)
            similarities.append(found)
    table = choose_repeats(np.concatenate(ids), np.concatenate(similarities))
    storage.write_table(path_to_selection, table)


def _place(rows: np.ndarray) -> Tensor:
    return torch.from_numpy(rows).to(runtime.execution().device)


def _look(network: ClipLayers, images: Tensor) -> dict[str, Tensor]:
    """Images (r, 3, h, w) to the CLIP layers (r, tokens, width), by target."""
    layers = network(images.to(runtime.execution().device))
    return {clip_image_target(layer): features for layer, features in layers.items()}


if __name__ == "__main__":
    with runtime.job(snakemake) as settings:  # noqa: F821
        select_repeats(
            paths_to_reconstructions=snakemake.input.reconstructions,  # noqa: F821
            paths_to_decoded=snakemake.input.decoded,  # noqa: F821
            paths_to_stimuli=snakemake.input.stimuli,  # noqa: F821
            path_to_weights=snakemake.params.weights,  # noqa: F821
            paths_to_receipts=snakemake.input.models,  # noqa: F821
            path_to_selection=snakemake.output.selection,  # noqa: F821
            **settings,
        )
