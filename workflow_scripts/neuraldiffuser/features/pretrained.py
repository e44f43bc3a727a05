"""Networks in the folder layouts of diffusers and transformers, loaded whole or refused.

Both libraries go on with random numbers where a file lacks a weight, and drop weights that the
configuration has no place for. Either would change every result without a word, so both are errors.
"""

from collections.abc import Mapping
from pathlib import Path

import neuraldiffuser.torchvision_schemas  # noqa: F401  before diffusers and transformers

import torch
from safetensors import SafetensorError
from torch import nn

from neuraldiffuser.errors import DataError

UNREADABLE = (OSError, ValueError, RuntimeError, SafetensorError)


def load_pretrained(kind: type, path: Path, *, device: str, dtype: torch.dtype) -> nn.Module:
    """Loads a frozen network from config.json and safetensors (one file, or shards with an index).

    Args:
        kind: a class with ``from_pretrained``, such as diffusers' AutoencoderKL.
        path: folder of the network.
        device: torch device.
        dtype: of the weights, whatever the file's is.

    Raises:
        DataError: a file is missing or unreadable, or the weights are not the configuration's.
    """
    if not (path / "config.json").is_file():
        raise DataError(
            f"{path}/config.json is missing; fetch or train the model, or name a folder in the"
            " diffusers layout."
        )
    try:
        network, report = kind.from_pretrained(
            path, local_files_only=True, use_safetensors=True, output_loading_info=True, dtype=dtype
        )
    except UNREADABLE as error:
        raise DataError(
            f"{path} holds no readable {kind.__name__} ({first_sentence(error)}); fetch or train"
            " the model again."
        ) from error
    refuse_misfits(report, path)
    return network.to(device).eval().requires_grad_(False)


def first_sentence(error: Exception) -> str:
    """What a library says first; it often goes on with advice for other uses."""
    return " ".join(str(error).partition(". ")[0].split()).rstrip(".")


def refuse_misfits(report: Mapping, path: Path) -> None:
    """Raises DataError where weights and configuration do not name the same tensors."""
    lacking, unknown = sorted(report["missing_keys"]), sorted(report["unexpected_keys"])
    if lacking or unknown:
        which, first = ("lack", lacking[0]) if lacking else ("hold an unknown", unknown[0])
        raise DataError(
            f"The weights in {path} {which} {first}, so they do not belong to its config.json;"
            " fetch or train the model again."
        )
