"""A checkpoint in the layout of the released GNet, and its forward pass written by hand.

Names, shapes and order of operations are those of the public readers, put down here without our
network: only the voxels are few and the values drawn.
"""

import pickle
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch.nn import functional

VOXELS = {1: 5, 2: 4}
VOLUMES = {1: (4, 3, 5), 2: (3, 4, 3)}
TRUNK_WIDTH, PASS_THROUGH = 64, 192
WIDE = TRUNK_WIDTH + PASS_THROUGH
BLOCKS = {  # channels in, channels out
    "conv4a": (128, WIDE),
    "conv5a": (WIDE, WIDE),
    "conv6a": (WIDE, WIDE),
    "conv4b": (WIDE, WIDE),
    "conv5b": (WIDE, WIDE),
    "conv6b": (WIDE, TRUNK_WIDTH),
}


def make_checkpoint(*, seed: int = 0) -> dict[str, Any]:
    """What the notebook saves, with few voxels."""
    rng = np.random.default_rng(seed)
    masks = {s: draw_mask(rng, np.prod(VOLUMES[s]), count) for s, count in VOXELS.items()}
    indices = {s: np.arange(len(mask))[mask] for s, mask in masks.items()}
    enc = draw_encoder(rng)
    return {
        "num_epochs": 3,
        "batch_size": 100,
        "best_params": {"enc": enc, "fwrfs": draw_readouts(rng)},
        "final_params": {"enc": draw_encoder(rng), "fwrfs": draw_readouts(rng)},
        "trn_loss_history": [np.float64(2.5), np.float64(1.5)],
        "hold_loss_history": [np.float32(2.5), np.float32(1.75)],
        "hold_cc_history": {s: [draw(rng, count)] for s, count in VOXELS.items()},
        "best_epoch": 1,
        "best_joint_cc_score": np.float32(0.25),
        "val_cc": {s: draw(rng, count) for s, count in VOXELS.items()},
        "input_mean": enc["mu"].numpy().copy(),
        "brain_nii_shape": dict(VOLUMES),
        "voxel_index": indices,
        "voxel_roi": {s: rng.integers(0, 26, n).astype(np.float64) for s, n in VOXELS.items()},
        "voxel_mask": masks,
    }


def draw(rng: np.random.Generator, *shape: int, scale: float = 1.0) -> np.ndarray:
    return (scale * rng.standard_normal(shape)).astype(np.float32)


def draw_mask(rng: np.random.Generator, size: int, count: int) -> np.ndarray:
    mask = np.zeros(size, dtype=bool)
    mask[rng.choice(size, count, replace=False)] = True
    return mask


def draw_convolution(rng: np.random.Generator, name: str, into: int, out: int, kernel: int) -> dict:
    deviation = (2 / (into * kernel**2)) ** 0.5
    return {
        f"{name}.weight": draw(rng, out, into, kernel, kernel, scale=deviation),
        f"{name}.bias": draw(rng, out, scale=0.1),
    }


def draw_normalisation(rng: np.random.Generator, name: str, channels: int) -> dict:
    return {
        f"{name}.weight": 1 + draw(rng, channels, scale=0.2),
        f"{name}.bias": draw(rng, channels, scale=0.2),
        f"{name}.running_mean": draw(rng, channels, scale=0.2),
        f"{name}.running_var": 1 + rng.random(channels, dtype=np.float32),
        f"{name}.num_batches_tracked": np.array(rng.integers(10**6)),
    }


def draw_encoder(rng: np.random.Generator) -> OrderedDict:
    """State of the part that subjects share, in the order of the public module."""
    state = {
        "mu": np.float32([0.47, 0.45, 0.41]).reshape(1, 3, 1, 1),
        **draw_convolution(rng, "pre.conv1.0", 3, 64, 11),
        **draw_convolution(rng, "pre.conv2.0", 64, 192, 5),
        **draw_convolution(rng, "enc.conv3", 192, 128, 3),
        **draw_normalisation(rng, "enc.bn1", 192),
    }
    for name, (into, out) in BLOCKS.items():
        state |= draw_convolution(rng, f"enc.{name}.conv1", into, out, 3)
        state |= draw_normalisation(rng, f"enc.{name}.bn1", into)
    return as_state(state)


def draw_readouts(rng: np.random.Generator) -> dict[int, OrderedDict]:
    return {
        subject: as_state(
            {
                "rf0": draw(rng, count, 25, 25),
                "rf1": draw(rng, count, 13, 13),
                "w": draw(rng, count, 512, scale=0.2),
                "b": draw(rng, count),
            }
        )
        for subject, count in VOXELS.items()
    }


def as_state(arrays: dict[str, np.ndarray]) -> OrderedDict:
    """Tensors in a module's state, which carries versions of its modules along."""
    state = OrderedDict((name, torch.from_numpy(array)) for name, array in arrays.items())
    state._metadata = OrderedDict({"": {"version": 1}})
    return state


class NumpyOnePickler(pickle._Pickler):
    """Pickles arrays under the names that numpy had before version 2."""

    def save_global(self, obj, name=None):
        if getattr(obj, "__module__", None) == "numpy._core.multiarray":
            self.write(pickle.GLOBAL + f"numpy.core.multiarray\n{obj.__name__}\n".encode())
            self.memoize(obj)
        else:
            super().save_global(obj, name)


def save(checkpoint: Any, path: Path, *, legacy: bool) -> Path:
    """Writes what torch of that time wrote from a GPU: zip since 1.6, a bare pickle before."""
    numpy_one = SimpleNamespace(__name__="pickle", Pickler=NumpyOnePickler, dump=pickle.dump)
    with patch.object(torch.serialization, "location_tag", lambda _: "cuda:0"):
        torch.save(
            checkpoint,
            path,
            pickle_module=numpy_one,
            _use_new_zipfile_serialization=not legacy,
        )
    return path


def answer(checkpoint: dict[str, Any], subject: int, images: torch.Tensor) -> np.ndarray:
    """Responses of a subject's voxels to (n, 3, 227, 227) images in [0, 1], in double precision."""
    state = {name: value.double() for name, value in checkpoint["best_params"]["enc"].items()}
    readout = checkpoint["best_params"]["fwrfs"][subject]
    fine, coarse = (maps.numpy() for maps in compute_maps(state, images.double()))
    rf0, rf1, w, b = (readout[name].double().numpy() for name in ("rf0", "rf1", "w", "b"))
    responses = []
    for voxel in range(len(b)):
        pooled = [pool(fine, rf0[voxel]), pool(coarse, rf1[voxel])]
        responses.append(squash(np.concatenate(pooled, axis=1)) @ w[voxel] + b[voxel])
    return np.stack(responses, axis=1)


def compute_maps(state: dict[str, torch.Tensor], images: torch.Tensor) -> list[torch.Tensor]:
    """The two groups of maps that voxels read: 25 x 25 and 13 x 13, 256 channels each."""

    def convolve(x, name, **options):
        return functional.conv2d(
            x, state[f"{name}.weight"], state[f"{name}.bias"], **options
        ).relu()

    def normalise(x, name):
        shape = (1, -1, 1, 1)
        mean, variance, weight, bias = (
            state[f"{name}.{part}"].view(shape)
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (variance + 1e-5).sqrt() * weight + bias

    def block(x, name):
        return convolve(normalise(x, f"{name}.bn1"), f"{name}.conv1", padding=1)

    x = convolve(images - state["mu"], "pre.conv1.0", stride=4, padding=2)
    x = convolve(functional.max_pool2d(x, 3, stride=2), "pre.conv2.0", padding=2)
    c3 = convolve(normalise(x, "enc.bn1"), "enc.conv3")
    c4a = block(c3, "enc.conv4a")
    c4b = block(c4a, "enc.conv4b")
    c5a = block(functional.max_pool2d(c4b, 3, stride=2, padding=1), "enc.conv5a")
    c5b = block(c5a, "enc.conv5b")
    c6a = block(c5b, "enc.conv6a")
    c6b = block(c6a, "enc.conv6b")
    return [
        torch.cat([c3, c4a[:, :TRUNK_WIDTH], c4b[:, :TRUNK_WIDTH]], dim=1),
        torch.cat([*(maps[:, :TRUNK_WIDTH] for maps in (c5a, c5b, c6a)), c6b], dim=1),
    ]


def squash(x: np.ndarray) -> np.ndarray:
    return np.log(1 + np.abs(x)) * np.tanh(x)


def pool(maps: np.ndarray, field: np.ndarray) -> np.ndarray:
    """(n, channels): squashed maps, weighted by the softmax of one voxel's field."""
    weights = np.exp(field) / np.exp(field).sum()
    return (squash(maps) * weights).sum(axis=(2, 3))
