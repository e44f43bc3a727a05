"""Simulated subjects whose voxels are noisy linear mixtures of each image's few sources."""

import numpy as np

from neuraldiffuser import storage
from neuraldiffuser.config.decoder import (
    Budget,
    LowLevel,
    Network,
    Optimiser,
    Prior,
    Recipe,
)

SUBJECTS = {"subj01": 30, "subj02": 40, "subj03": 35}
SHAPES = {"clip_text": (5, 8), "vae_latent": (4, 8, 8)}
TEST_IMAGES = np.arange(300, 330)
# What a target's file says of how it was made, and every file decoded from it repeats.
ORIGIN = {"settings": '{"planted":true}', "precision": "float32", "model": '{"weights":"0a1b"}'}


def seen_by(number: int) -> np.ndarray:
    """73k ids of a subject's own training images."""
    return np.arange(number * 100, number * 100 + 100)


def write_voxels(path, subject: str, number: int, sources: np.ndarray) -> None:
    """Three trials per image, test images 300 to 329, in a shuffled order."""
    generator = np.random.default_rng(number + 1)
    mixing = generator.standard_normal((sources.shape[1], SUBJECTS[subject]))
    arrays = {}
    for split, images in (("training", seen_by(number)), ("test", TEST_IMAGES)):
        ids = generator.permutation(np.repeat(images, 3))
        signal = sources[ids] @ mixing / 2
        betas = signal + generator.standard_normal(signal.shape)
        arrays[f"{split}/betas"] = betas.astype(np.float32)
        arrays[f"{split}/id"] = ids
        arrays[f"{split}/repeat"] = np.zeros(len(ids), np.int64)
        arrays[f"{split}/session"] = np.ones(len(ids), np.int64)
    count = SUBJECTS[subject]
    arrays["voxel/roi"] = np.zeros(count, np.uint8)
    arrays["voxel/noise_ceiling"] = np.full(count, 30, np.float32)
    arrays["voxel/index"] = np.arange(count)
    arrays["statistics/session"] = np.ones(1, np.int64)
    arrays["statistics/valid"] = np.ones((1, count), bool)
    for name in ("mean", "test_mean"):
        arrays[f"statistics/{name}"] = np.zeros((1, count))
    for name in ("std", "test_std"):
        arrays[f"statistics/{name}"] = np.ones((1, count))
    attributes = {"subject": subject, "volume_shape": (5, 5, 5)}
    none = {"missing_sessions": np.zeros(0, np.int64), "dropped_voxels": 0}
    storage.write_arrays(path, arrays, attributes | none)


def write_target(path, shape: tuple[int, ...], sources: np.ndarray) -> None:
    """Targets are linear in the sources, with a mean and unequal deviations; ids shuffled rows."""
    generator = np.random.default_rng(9)
    size = int(np.prod(shape))
    rows = sources @ generator.standard_normal((sources.shape[1], size)) * 0.4
    rows = rows * np.linspace(0.5, 2, size) + generator.standard_normal(size)
    embedding = rows.reshape(-1, *shape).astype(np.float16)
    storage.write_arrays(path, {"id": np.arange(len(rows)), "embedding": embedding}, ORIGIN)


def small_recipe(**changes) -> Recipe:
    """A recipe that trains in a second; ``changes`` replace whole sections."""
    settings = {
        "backbone": "residual_mlp",
        "mixco_permutation": "global",
        "target_scaling": "per_dimension",
        "network": Network(hidden_size=32, blocks=2, dropout=0.1, input_dropout=0.1),
        "prior": Prior(
            depth=1, head_size=4, rotary_size=4, feedforward_factor=2, prediction="residual"
        ),
        "low_level": LowLevel(
            encoder_dropout=0.1,
            dropout=0.1,
            maps_channels=8,
            upsampler_channels=(8, 8),
            upsampler_groups=4,
            projector_width=8,
            teacher="none",
        ),
        "optimiser": Optimiser(learning_rate=1e-2, warmup_fraction=0.2, precision="fp32"),
        "budget": Budget(epochs=6, samples_per_epoch=80, batch_size=16),
        "seed": 3,
    }
    return Recipe(**(settings | changes))
