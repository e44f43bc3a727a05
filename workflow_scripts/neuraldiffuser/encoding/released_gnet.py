"""The released multi-subject GNet: from its checkpoint to tensors under the names of our network.

The checkpoint is a pickle from strangers, so torch's restricted unpickler reads it, which admits
tensors, plain containers and the few numpy globals named here, and executes nothing else. Layout
and network follow the public readers (MedARC-AI/MindEyeV2, src/models.py, ``trunk_width`` 64 and
``pass_through`` 192) and the notebook that writes such files (styvesg/nsd,
torched_joined_gnet_encoding_multisubjects.ipynb):

    best_params.enc       state of the network that all subjects share
    best_params.fwrfs     by subject: rf0, rf1 (receptive fields), w, b (weights and bias)
    input_mean            (1, 3, 1, 1), the mean colour, also best_params.enc.mu
    val_cc                by subject: (voxels,) correlation on the shared images
    voxel_mask            by subject: (volume,) boolean, over the volume in C order
    voxel_index           by subject: (voxels,) the places where the mask is true, ascending
    voxel_roi             by subject: (voxels,) labels of prf-visualrois, elsewhere of Kastner2015
    brain_nii_shape       by subject: the volume's three sizes

Subjects are numbers from 1. Whatever else the file holds (weights of the last epoch, histories) is
left behind.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from neuraldiffuser.config.encoding import GnetSettings
from neuraldiffuser.encoding.gnet import Gnet
from neuraldiffuser.errors import DataError
from neuraldiffuser.nsd import published_counts
from neuraldiffuser.nsd.selection import Selection

NETWORK = GnetSettings()

# Modules of our network -> those of the public one; what they hold is called alike in both.
BLOCKS = {
    "trunk.fine.0": "enc.conv4a",
    "trunk.fine.1": "enc.conv4b",
    "trunk.coarse.0": "enc.conv5a",
    "trunk.coarse.1": "enc.conv5b",
    "trunk.coarse.2": "enc.conv6a",
    "trunk.coarse.3": "enc.conv6b",
}
MODULES = {
    "prefilter.layers.0": "pre.conv1.0",
    "prefilter.layers.3": "pre.conv2.0",
    "trunk.enter.0": "enc.bn1",
    "trunk.enter.2": "enc.conv3",
    **{f"{ours}.0": f"{public}.bn1" for ours, public in BLOCKS.items()},
    **{f"{ours}.2": f"{public}.conv1" for ours, public in BLOCKS.items()},
}
READOUT = {
    "readout.fields.0": "rf0",
    "readout.fields.1": "rf1",
    "readout.weight": "w",
    "readout.bias": "b",
}
SELECTION = ("val_cc", "voxel_mask", "voxel_index", "voxel_roi")

# torch looks a global up by the name in the file, and numpy 2 moved these two functions.
NUMPY_FUNCTIONS = ("_reconstruct", "scalar")
NUMPY_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")
NUMPY_KINDS = ("?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")

# How torch names what it refuses to look up, to build or to call.
REFUSED = re.compile(r"GLOBAL (\S+)|got <class '([\w.]+)'>|unrecognized function (\S+)")


@dataclass(frozen=True)
class ReleasedGnet:
    """The released network of all its subjects.

    Attributes:
        tensors: what all subjects share under the names of ``Gnet``'s state; each subject's readout
            (same names), val_cc, voxel_mask, voxel_index and voxel_roi behind "subj01." and so on.
            Values and dtypes are those of the checkpoint.
        volume_shapes: by subject, the volume that voxel_mask and voxel_index refer to.
        voxels: by subject, how many.
    """

    tensors: dict[str, torch.Tensor]
    volume_shapes: dict[str, tuple[int, ...]]
    voxels: dict[str, int]


class _Difference(Exception):
    """What differs from the public description, as a clause."""


def read_checkpoint(path: Path | str) -> Any:
    """What a checkpoint of ``torch.save`` holds, in either of its formats; executes nothing in it.

    Raises:
        DataError: the file is missing, truncated, no such checkpoint, or asks for a global that no
            GNet needs.
    """
    if not Path(path).is_file():
        raise DataError(f"{path} is missing; fetch it, or put your own copy there.")
    try:
        with torch.serialization.safe_globals(list_numpy_globals()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a broken pickle fails in any of a dozen ways
        refused = REFUSED.search(str(error))
        if refused:
            raise DataError(
                f"{path} asks for {refused[refused.lastindex]}, which no GNet checkpoint needs and "
                "which was not executed; delete it and fetch it again from its source."
            ) from error
        raise DataError(
            f"{path} is truncated or is no checkpoint of tensors and arrays; delete it and fetch "
            "it again from its source."
        ) from error


def list_numpy_globals() -> list[Any]:
    """What arrays and scalars of numbers and booleans need, pickled by numpy 1 or 2."""
    functions = [
        (getattr(np._core.multiarray, name), f"{module}.{name}")
        for name in NUMPY_FUNCTIONS
        for module in NUMPY_MODULES
    ]
    return [*functions, np.ndarray, np.dtype, *{type(np.dtype(kind)) for kind in NUMPY_KINDS}]


def convert(checkpoint: Any, *, source: Path | str) -> ReleasedGnet:
    """Inspects a checkpoint and renames its best weights and its voxels.

    Args:
        checkpoint: what ``read_checkpoint`` returns.
        source: where it was read, for errors.

    Raises:
        DataError: something differs from the public description; the first difference is named.
    """
    try:
        return _convert(checkpoint)
    except _Difference as difference:
        raise DataError(
            f"{source} is not the released GNet: {difference}; fetch it again from its source."
        ) from None


def state_of_subject(tensors: Mapping[str, torch.Tensor], subject: str) -> dict[str, torch.Tensor]:
    """The state of a ``Gnet(NETWORK, voxels=...)`` that answers as the released one of a subject.

    Args:
        tensors: those of a ``ReleasedGnet``.
        subject: "subj01" and so on.

    Raises:
        DataError: the released network does not know the subject.
    """
    readout = {name: f"{subject}.{name}" for name in READOUT}
    if not set(readout.values()) <= set(tensors):
        raise DataError(f"The released GNet has no {subject}; choose another subject.")
    shared = {name: tensor for name, tensor in tensors.items() if not name.startswith("subj")}
    return shared | {name: tensors[stored] for name, stored in readout.items()}


def state_of_voxels(
    tensors: Mapping[str, torch.Tensor],
    subject: str,
    *,
    volume_shapes: Mapping[str, Sequence[int]],
    selection: Selection,
) -> dict[str, torch.Tensor]:
    """``state_of_subject`` for chosen voxels, joined by their places in the volume.

    Args:
        tensors: those of a ``ReleasedGnet``.
        subject: "subj01" and so on.
        volume_shapes: by subject, the volume that the released voxels refer to.
        selection: the voxels to answer for, in any order.

    Raises:
        DataError: the released network has no such subject, another volume, or lacks a voxel.
    """
    state = state_of_subject(tensors, subject)
    shapes = [tuple(shape) for shape in (volume_shapes[subject], selection.volume_shape)]
    if shapes[0] != shapes[1]:
        raise DataError(
            f"The released GNet's voxels of {subject} lie in a volume of {shapes[0]}, those "
            f"measured in one of {shapes[1]}; set encoding.source to train."
        )
    places = tensors[f"{subject}.voxel_index"].numpy()  # ascending
    lacking = np.setdiff1d(selection.index, places)
    if len(lacking):
        raise DataError(
            f"The released GNet lacks {len(lacking)} of {len(selection.index)} voxels of "
            f"{subject}, the first at place {lacking[0]} of its volume; set encoding.source to "
            "train."
        )
    rows = torch.from_numpy(np.searchsorted(places, selection.index))
    return state | {name: state[name][rows] for name in READOUT}


def compare_voxels(subject: str, *, voxels: int, volume_shape: tuple[int, ...]) -> str:
    """What comparing a subject's number of voxels with NSD's published one says.

    Raises:
        DataError: the volume is that of NSD's subject, but the number differs.
    """
    if published_counts.GRIDS.get(subject) != volume_shape:
        return published_counts.NOT_NSD
    expected = published_counts.VOXELS[subject]
    if voxels != expected:
        raise DataError(
            f"The released GNet has {voxels} voxels of {subject} where NSD counts {expected}; "
            "fetch it again from its source."
        )
    return published_counts.AGREES


def _convert(checkpoint: Any) -> ReleasedGnet:
    tensors = _convert_shared(checkpoint)
    volume_shapes, voxels = {}, {}
    for number in _list_subjects(checkpoint):
        subject = f"subj{number:02d}"
        selection = _convert_selection(checkpoint, number)
        volume_shapes[subject] = _read_volume_shape(checkpoint, number)
        _require_agreement(selection, volume_shapes[subject], place=f"subject {number}")
        voxels[subject] = len(selection["voxel_index"])
        readout = _convert_state(
            checkpoint, "best_params", "fwrfs", number, names=READOUT, voxels=voxels[subject]
        )
        tensors |= {f"{subject}.{name}": tensor for name, tensor in (readout | selection).items()}
    return ReleasedGnet(tensors, volume_shapes, voxels)


def _look_up(checkpoint: Any, *keys: str | int) -> Any:
    """An entry of nested mappings."""
    found = checkpoint
    for depth, key in enumerate(keys, start=1):
        if not isinstance(found, Mapping) or key not in found:
            raise _Difference(f"it lacks {'.'.join(map(str, keys[:depth]))}")
        found = found[key]
    return found


def _list_subjects(checkpoint: Any) -> list[int]:
    """The subjects that have a readout, and therefore everything else."""
    numbers = _list_keys(checkpoint, "best_params", "fwrfs")
    if not numbers or not all(type(number) is int and 0 < number < 100 for number in numbers):
        raise _Difference(f"best_params.fwrfs has the keys {numbers} where subjects are expected")
    for name in (*SELECTION, "brain_nii_shape"):
        if set(_list_keys(checkpoint, name)) != set(numbers):
            raise _Difference(f"{name} is not of the same subjects as best_params.fwrfs")
    return sorted(numbers)


def _list_keys(checkpoint: Any, *keys: str) -> list[Any]:
    found = _look_up(checkpoint, *keys)
    return list(found) if isinstance(found, Mapping) else []


def _convert_shared(checkpoint: Any) -> dict[str, torch.Tensor]:
    """What all subjects share, under the names of ``Gnet``'s state."""
    names = {"input_mean": "mu"}
    for name in _expected_state(voxels=1):
        module, _, parameter = name.rpartition(".")
        if module in MODULES:
            names[name] = f"{MODULES[module]}.{parameter}"
    shared = _convert_state(checkpoint, "best_params", "enc", names=names, voxels=1)
    mean = _to_tensor(_look_up(checkpoint, "input_mean"), place="input_mean")
    if not torch.equal(mean.float().flatten(), shared["input_mean"].flatten()):
        raise _Difference("input_mean is not best_params.enc.mu")
    return shared


def _convert_state(
    checkpoint: Any, *keys: str | int, names: Mapping[str, str], voxels: int
) -> dict[str, torch.Tensor]:
    """The state below ``keys`` under our names; shapes and dtypes must be those of our network.

    Args:
        checkpoint: all of it.
        keys: where the state stands.
        names: public names by ours.
        voxels: that the readout has.
    """
    place = ".".join(map(str, keys))
    expected = _expected_state(voxels=voxels)
    converted = {}
    for ours, public in names.items():
        tensor = _to_tensor(_look_up(checkpoint, *keys, public), place=f"{place}.{public}")
        shape = _public_shape(ours, expected[ours].shape)
        if tensor.shape != shape or tensor.dtype != expected[ours].dtype:
            raise _Difference(
                f"{place}.{public} is {_describe(tensor.shape, tensor.dtype)} instead of "
                f"{_describe(shape, expected[ours].dtype)}"
            )
        converted[ours] = tensor.reshape(expected[ours].shape)
    unknown = [key for key in _look_up(checkpoint, *keys) if key not in names.values()]
    if unknown:
        raise _Difference(f"{place} has {unknown[0]}, which the network does not know")
    return converted


def _expected_state(*, voxels: int) -> dict[str, torch.Tensor]:
    """Names, shapes and dtypes of our network's state, without values."""
    with torch.device("meta"):
        return Gnet(NETWORK, voxels=voxels).state_dict()


def _public_shape(name: str, shape: torch.Size) -> tuple[int, ...]:
    """The shape that the public network gives what is ``shape`` in ours."""
    if name == "input_mean":
        return (1, *shape)
    if name.startswith("readout.fields"):
        return (shape[0], math.isqrt(shape[1]), math.isqrt(shape[1]))
    return tuple(shape)


def _describe(shape: tuple[int, ...], dtype: torch.dtype) -> str:
    return f"{str(dtype).removeprefix('torch.')} {tuple(shape)}"


def _to_tensor(value: Any, *, place: str) -> torch.Tensor:
    """A tensor or an array of finite numbers as a tensor of the same dtype."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        value = torch.from_numpy(value.astype(value.dtype.newbyteorder("="), order="C"))
    if not isinstance(value, torch.Tensor) or value.layout != torch.strided:
        raise _Difference(f"{place} is no array of numbers")
    if not bool(value.isfinite().all()):
        raise _Difference(f"{place} holds non-finite values")
    return value.detach()


def _convert_selection(checkpoint: Any, number: int) -> dict[str, torch.Tensor]:
    """Which voxels a subject's readout is of, and how well it predicts them."""
    return {
        name: _to_tensor(_look_up(checkpoint, name, number), place=f"{name}.{number}")
        for name in SELECTION
    }


def _read_volume_shape(checkpoint: Any, number: int) -> tuple[int, ...]:
    shape = _look_up(checkpoint, "brain_nii_shape", number)
    try:
        return tuple(int(size) for size in shape)
    except (TypeError, ValueError):
        raise _Difference(f"brain_nii_shape.{number} is no list of sizes") from None


def _require_agreement(
    selection: Mapping[str, torch.Tensor], volume_shape: tuple[int, ...], *, place: str
) -> None:
    """Refuses a selection of which mask, index, labels and accuracies are not of the same voxels.

    So the order of voxels is that of the volume in C order, as everywhere in this project.
    """
    mask, index = selection["voxel_mask"], selection["voxel_index"]
    if mask.dtype != torch.bool or mask.shape != (math.prod(volume_shape),):
        raise _Difference(
            f"the mask of {place} is {_describe(mask.shape, mask.dtype)} instead of a boolean for "
            f"each voxel of {volume_shape}"
        )
    if not torch.equal(index, mask.nonzero().flatten().to(index.dtype)):
        raise _Difference(f"voxel_index and voxel_mask of {place} are not of the same voxels")
    for name in ("voxel_roi", "val_cc"):
        if selection[name].shape != index.shape:
            raise _Difference(
                f"{place} has {tuple(selection[name].shape)} values of {name} for "
                f"{len(index)} voxels"
            )
