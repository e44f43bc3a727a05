"""What a reconstruction job needs before its first step: networks, schedule, scale, embeddings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from neuraldiffuser import runtime, storage
from neuraldiffuser.config.reconstruction import Sampling, Variant
from neuraldiffuser.diffusion.embeddings import Embeddings, read_embeddings
from neuraldiffuser.diffusion.guidance import GUIDANCE, GuidanceSource
from neuraldiffuser.diffusion.models import load_latent_diffusion
from neuraldiffuser.diffusion.reconstruct import Engine, Guided
from neuraldiffuser.diffusion.schedule import load_scheduler, make_schedule
from neuraldiffuser.diffusion.variants import FEATURES


def load_engine(
    path_to_stable_diffusion: Path, settings: Sampling, *, seed: int, device: str
) -> Engine:
    """Loads a model folder and lays out its schedule."""
    path = Path(path_to_stable_diffusion)
    schedule = make_schedule(
        load_scheduler(path),
        steps=settings.steps,
        strength=settings.strength,
        noise_timestep=settings.noise_timestep,
    )
    dtype = choose_dtype(settings.precision, device=device)
    model = load_latent_diffusion(path, device=device, dtype=dtype)
    return Engine(model=model, schedule=schedule, settings=settings, seed=seed)


def choose_dtype(precision: str, *, device: str) -> torch.dtype:
    """The number format of the networks; says so where the device is slow at it."""
    if device == "cpu" and precision != "float32":
        runtime.logger.warning(
            "Processors are several times slower in %s; on a machine without a GPU, set"
            " reconstruction.precision to float32.",
            precision,
        )
    return getattr(torch, precision)


def load_guided(
    source: GuidanceSource, variant: Variant, paths_to_calibrations: Sequence[Path | str]
) -> Guided | None:
    """The variant's guidance with its scale: a calibration where there is one, else a number."""
    function = GUIDANCE[variant.guidance](source)
    if function is None:
        return None
    scales = [storage.read_json(path)["scale"] for path in paths_to_calibrations]
    scale = float(scales[0] if scales else variant.scale) * variant.scale_factor
    return Guided(function, scale, variant.strength)


def describe(variant: Variant, guided: Guided | None) -> dict[str, str | float]:
    """What a file of reconstructions says about how they were made."""
    return {
        "source": variant.source,
        "guidance": variant.guidance,
        "features": variant.features,
        "strength": variant.strength,
        "scale": guided.scale if guided else 0.0,
    }


def read_variant(
    by_target: Mapping[str, Path],
    ids: np.ndarray,
    variant: Variant,
    *,
    features: Sequence[str],
    seed: int,
) -> Embeddings:
    """Test embeddings of images, with the features that the variant is guided by."""
    own = read_embeddings(by_target, ids, group="test")
    read = FEATURES[variant.features]
    guiding = {name: read(by_target[name], ids, seed) for name in features}
    return Embeddings(own.ids, own.latents, own.texts, guiding)
