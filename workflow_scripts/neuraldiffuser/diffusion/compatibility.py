"""Whether what guides belongs to the models and settings that now read it.

Another node or normalisation, or another tower of the same size, gives embeddings of the same
shape, and another choice of voxels may give as many: only where they come from tells them apart.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from neuraldiffuser import storage
from neuraldiffuser.config.guidance import VOXELS
from neuraldiffuser.config.targets import ClipImageSettings
from neuraldiffuser.diffusion.embeddings import TEXT, name_target
from neuraldiffuser.errors import DataError
from neuraldiffuser.features.origin import Origin, read_origin

LAYER = "clip_image_"  # what the names of CLIP image layers begin with


def refuse_strangers(
    paths_to_embeddings: Iterable[Path | str],
    *,
    clip_image: ClipImageSettings,
    paths_to_receipts: Iterable[Path | str],
) -> None:
    """Refuses embeddings of CLIP that were decoded for other models or settings.

    ASSUME: latents of any autoencoder may be meant; targets.vae_latent.autoencoder says whose.

    Args:
        paths_to_embeddings: embeddings/{target}/{subject}.h5; others are passed over.
        clip_image: what the guidance layers are.
        paths_to_receipts: of the files of every model that is read, with their digests.

    Raises:
        DataError: a file does not say how its target was made, or it was made otherwise.
    """
    known = {storage.read_json(path)["sha256"] for path in paths_to_receipts}
    for path in map(Path, paths_to_embeddings):
        target = name_target(path)
        if target == TEXT:
            refuse_other_model(path, read_origin(path), known)
        elif target.startswith(LAYER):
            origin = read_origin(path)
            refuse_other_settings(path, origin, clip_image.model_dump(mode="json"))
            refuse_other_model(path, origin, known)


def refuse_other_voxels(
    paths_to_guiding: Iterable[Path | str], paths_to_encoder: Iterable[Path | str]
) -> None:
    """Refuses an encoder of other voxels than those that guide: they are joined by position.

    Args:
        paths_to_guiding: voxels/{subject}.h5 where voxels guide; others are passed over.
        paths_to_encoder: encoders/{subject}.safetensors and .h5; none where no encoder guides.

    Raises:
        DataError: it was fitted to the voxels of another subject, or to another choice of them.
    """
    measured = [path for path in map(Path, paths_to_guiding) if name_target(path) == VOXELS]
    for path, fitted in product(measured, map(Path, paths_to_encoder)):
        subject, index = READERS[fitted.suffix](fitted)
        is_same = subject == storage.read_attributes(path)["subject"]
        if not (is_same and np.array_equal(index, storage.read_array(path, "voxel/index"))):
            raise DataError(
                f"{fitted} was not fitted to the voxels of {path}; delete it and run the workflow"
                " again."
            )


def read_voxels_of_network(path: Path) -> tuple[str, np.ndarray]:
    """Whose voxels encoders/{subject}.safetensors answers for, and their places in the volume."""
    tensors, metadata = storage.read_tensors(path)
    return metadata["subject"], tensors["index"].numpy()


def read_voxels_of_accuracy(path: Path) -> tuple[str, np.ndarray]:
    """The same of encoders/{subject}.h5."""
    return storage.read_attributes(path)["subject"], storage.read_array(path, "index")


READERS = {".safetensors": read_voxels_of_network, ".h5": read_voxels_of_accuracy}


def refuse_other_settings(path: Path, origin: Origin, expected: Mapping[str, Any]) -> None:
    """Raises DataError where a target was made with other settings than ``targets.clip_image``."""
    for key, value in expected.items():
        found = origin.settings.get(key)
        if found != value:
            raise DataError(
                f"{path} was decoded from targets of {key} {write(found)}, but"
                f" targets.clip_image.{key} is {write(value)};"
                f" {how_to_mend(path)}"
            )


def refuse_other_model(path: Path, origin: Origin, known: Collection[str]) -> None:
    """Raises DataError where a file of a target's model is none of those that are read now."""
    strange = [name for name, digest in origin.digests.items() if digest not in known]
    if strange:
        raise DataError(
            f"{path} was decoded from targets made with another {strange[0]} than is read now;"
            f" {how_to_mend(path)}"
        )


def how_to_mend(path: Path) -> str:
    """What to do about a file whose target is outdated."""
    return f"delete targets/{path.parent.name}.h5 and run the workflow again."


def write(value: Any) -> str:
    """A setting's value as it stands in a sentence."""
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
