"""Whose embeddings are evaluated: the decoders' and their controls', joined by image.

A predictor's embeddings of one target and subject lie in one file: groups ``test`` and
``validation``, the held-out images, with id, embedding and, where there is one, projection.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from pathlib import Path

import numpy as np

from neuraldiffuser import storage
from neuraldiffuser.errors import DataError
from neuraldiffuser.evaluation.images import name_ids

DECODER, RIDGE, SCRATCH, MEAN_FEATURE = "decoder", "ridge", "scratch", "mean_feature"
PREDICTORS = (DECODER, SCRATCH, RIDGE)  # those that leave embeddings
TEST, VALIDATION = "test", "validation"
SPLITS = (TEST, VALIDATION)
GUIDANCE = "clip_image_"  # begins the name of every guidance layer
DRAWN, ALL = "drawn", "all"  # pools of candidates that retrieval chooses from
VOTE = "vote"  # the method of retrieval that counts all guidance layers
LAYER_MEAN = "guidance"  # the pseudo-target that averages the guidance layers
ROWS_AT_ONCE = 1024

Files = Mapping[str, Mapping[str, Path]]  # target, predictor: path


def sort_by_target(paths: Mapping[str, Sequence[Path | str]]) -> dict[str, dict[str, Path]]:
    """Paths ``.../{target}/{subject}.h5`` of every predictor, by target and predictor."""
    files: dict[str, dict[str, Path]] = {}
    for predictor, some in paths.items():
        for path in map(Path, some):
            files.setdefault(path.parent.name, {})[predictor] = path
    return files


def held_out_ids(files: Files) -> dict[str, np.ndarray]:
    """The ids of each split that has images; all files must hold the same.

    Raises:
        DataError: two files hold different images.
    """
    paths = [path for predictors in files.values() for path in predictors.values()]
    found = {split: _common_ids(paths, split) for split in SPLITS}
    return {split: ids for split, ids in found.items() if len(ids)}


def _common_ids(paths: Sequence[Path], split: str) -> np.ndarray:
    ids = storage.read_array(paths[0], f"{split}/id")
    for path in paths[1:]:
        alone = np.setxor1d(ids, storage.read_array(path, f"{split}/id"))
        if len(alone):
            raise DataError(
                f"{paths[0]} and {path} hold different {split} images ({name_ids(alone)} only in "
                "one); delete both and predict them again."
            )
    return ids


def training_ids(path_to_voxels: Path | str, held_out: Iterable[np.ndarray]) -> np.ndarray:
    """Ids of a subject's training images without the held-out ones."""
    return reduce(np.setdiff1d, held_out, storage.read_array(path_to_voxels, "training/id"))


def mean_target(path_to_target: Path | str, ids: np.ndarray) -> np.ndarray:
    """The mean of a target over images, float64, read in parts."""
    parts = np.array_split(ids, -(-len(ids) // ROWS_AT_ONCE))
    sums = [storage.read_rows(path_to_target, part).sum(axis=0, dtype=np.float64) for part in parts]
    return np.sum(sums, axis=0) / len(ids)


def is_guidance(target: str) -> bool:
    """Whether a target is a guidance layer."""
    return target.startswith(GUIDANCE)
