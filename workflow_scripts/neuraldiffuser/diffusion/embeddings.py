"""What images are reconstructed from, joined by id from the files of their targets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neuraldiffuser import storage
from neuraldiffuser.config.guidance import LATENT
from neuraldiffuser.errors import ConfigError, DataError

TEXT = "clip_text"


@dataclass(frozen=True)
class Embeddings:
    """Rows of n images: ids (n,), latents (n, c, h, w), texts (n, tokens, width), features.

    Features are what guides, by target name: (n, ...) each. All float32.
    """

    ids: np.ndarray
    latents: np.ndarray
    texts: np.ndarray
    features: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class EmbeddingFile:
    """Decoded embeddings of one target and subject: ``embeddings/{target}/{subject}.h5``."""

    path: Path

    def ids(self, group: str) -> np.ndarray:
        """Ascending 73k ids of a group (test or validation), int64 (n,)."""
        return np.sort(storage.read_array(self.path, f"{group}/id"))

    def read(self, group: str, ids: np.ndarray) -> np.ndarray:
        """Rows of the images `ids`, float32 (n, ...); refuses missing ids and non-finite values."""
        rows = storage.read_rows(self.path, ids, f"{group}/embedding", f"{group}/id")
        rows = rows.astype(np.float32)
        storage.require_finite(rows, f"{group}/embedding of {self.path}")
        return rows


def name_target(path: Path | str) -> str:
    """The target of a file, the name of its folder: ``embeddings/{target}/{subject}.h5``."""
    return Path(path).parent.name


def name_targets(paths: Iterable[Path | str]) -> dict[str, Path]:
    """One subject's files by target."""
    return {name_target(path): Path(path) for path in paths}


@dataclass(frozen=True)
class Conditions:
    """The embeddings that every sample starts from and is conditioned on."""

    latents: EmbeddingFile
    texts: EmbeddingFile

    def with_features(
        self, group: str, ids: np.ndarray, features: Mapping[str, np.ndarray]
    ) -> Embeddings:
        """Those of the images `ids` of a group, with what guides them."""
        return Embeddings(
            ids=np.asarray(ids),
            latents=self.latents.read(group, ids),
            texts=self.texts.read(group, ids),
            features=features,
        )


def open_conditions(paths: Iterable[Path | str]) -> Conditions:
    """Finds them among embedding files.

    Raises:
        DataError: one of them is missing.
    """
    by_target = name_targets(paths)
    for target in (LATENT, TEXT):
        if target not in by_target:
            raise DataError(
                f"No embeddings of {target} among {', '.join(by_target) or 'no files'}; pass"
                f" embeddings/{target}/{{subject}}.h5."
            )
    return Conditions(*(EmbeddingFile(by_target[target]) for target in (LATENT, TEXT)))


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
