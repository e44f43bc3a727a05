"""Decoded embeddings of some images, joined by id from the files of their targets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neuraldiffuser import storage
from neuraldiffuser.errors import ConfigError, DataError

LATENT, TEXT = "vae_latent", "clip_text"


@dataclass(frozen=True)
class Embeddings:
    """Rows of n images: ids (n,), latents (n, c, h, w), texts (n, tokens, width), features.

    Features are what guides, by target name: (n, tokens, width) each. All float32.
    """

    ids: np.ndarray
    latents: np.ndarray
    texts: np.ndarray
    features: Mapping[str, np.ndarray]


def name_targets(paths: Iterable[Path]) -> dict[str, Path]:
    """Embedding files by target: `embeddings/{target}/{subject}.h5`.

    Raises:
        DataError: a target that every reconstruction needs is not among them.
    """
    by_target = {Path(path).parent.name: Path(path) for path in paths}
    for target in (LATENT, TEXT):
        if target not in by_target:
            raise DataError(
                f"No embeddings of {target} among {', '.join(by_target) or 'no files'}; pass"
                f" embeddings/{target}/{{subject}}.h5."
            )
    return by_target


def read_ids(path: Path, group: str) -> np.ndarray:
    """Ascending 73k ids of a group (test or validation) of an embeddings file, int64 (n,)."""
    return np.sort(storage.read_array(path, f"{group}/id"))


def read_embedding(path: Path, group: str, ids: np.ndarray) -> np.ndarray:
    """Rows of the images `ids`, float32 (n, ...); refuses missing ids and non-finite values."""
    rows = storage.read_rows(path, ids, f"{group}/embedding", f"{group}/id").astype(np.float32)
    storage.require_finite(rows, f"{group}/embedding of {path}")
    return rows


def read_embeddings(
    by_target: Mapping[str, Path], ids: np.ndarray, *, group: str, features: Sequence[str] = ()
) -> Embeddings:
    """Latents, texts and the named features of images, each joined by id."""
    return Embeddings(
        ids=np.asarray(ids),
        latents=read_embedding(by_target[LATENT], group, ids),
        texts=read_embedding(by_target[TEXT], group, ids),
        features={name: read_embedding(by_target[name], group, ids) for name in features},
    )


def choose_shard(ids: np.ndarray, *, shard: int, shards: int) -> np.ndarray:
    """The ids of one of `shards` nearly equal, consecutive parts.

    Raises:
        ConfigError: there is no such shard, or it would be empty.
    """
    if not 0 <= shard < shards or shards > len(ids):
        raise ConfigError(
            f"Shard {shard} of {shards} holds none of {len(ids)} test images;"
            " lower reconstruction.shards."
        )
    return np.array_split(ids, shards)[shard]
