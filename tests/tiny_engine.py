"""The guided sampler on tiny models: settings, engines and embeddings that fit them."""

import json
from pathlib import Path

import numpy as np
import tiny_models

from neuraldiffuser import storage
from neuraldiffuser.config.reconstruction import Reconstruction
from neuraldiffuser.config.targets import ClipImageSettings
from neuraldiffuser.diffusion.embeddings import Embeddings
from neuraldiffuser.diffusion.guidance import GuidanceSource, SummedGuidance
from neuraldiffuser.diffusion.reconstruct import Engine, Guided
from neuraldiffuser.diffusion.schedule import make_schedule

IDS = np.array([11, 205, 4999])
CLIP_IMAGE = ClipImageSettings(node="block_output", normalisation="clip", antialias=True)
DIGEST = "0a1b"  # in the receipts of the tiny models' files


def make_settings(*, loss: str = "sum_squares", **changes) -> Reconstruction:
    """The corrected reading on a short schedule."""
    base = {
        "steps": 8,
        "classifier_free_scale": 3.0,
        "tweedie": "exact",
        "noise_timestep": "aligned",
        "guidance": {"clip_layers": {"loss": loss}},
        "precision": "float32",
        "batch_size": 4,
    }
    return Reconstruction(**(base | changes))


def make_source(path_to_clip, clip_image, settings=None) -> GuidanceSource:
    """What functions are built from where CLIP alone guides."""
    return GuidanceSource(
        settings=(settings or make_settings()).guidance,
        clip_image=clip_image,
        paths={"clip_image": path_to_clip},
        decode=refuse_to_decode,
    )


def refuse_to_decode(_latents):
    """CLIP layers need no image of a target."""
    raise AssertionError("CLIP layers decode nothing beforehand")


def guided_by(function, *, scale: float, strength: float) -> Guided:
    """Guidance by one function."""
    return Guided(SummedGuidance({"function": (function, scale)}), strength)


def make_engine(model, scheduler, settings, *, seed: int = 7) -> Engine:
    """An engine over the schedule that the settings ask for."""
    schedule = make_schedule(
        scheduler,
        steps=settings.steps,
        strength=settings.strength,
        noise_timestep=settings.noise_timestep,
    )
    return Engine(model=model, schedule=schedule, settings=settings, seed=seed)


def make_embeddings(targets, ids=IDS, *, seed: int = 0) -> Embeddings:
    """Random embeddings, float64, drawn per id so that any subset has the same rows."""

    def draw(shape):
        rows = [np.random.default_rng((seed, int(one), *shape)) for one in ids]
        return np.stack([row.standard_normal(shape) for row in rows])

    features = {name: draw((*tiny_models.CLIP_SHAPE, k)[:2]) for k, name in enumerate(targets)}
    return Embeddings(
        np.asarray(ids), draw(tiny_models.LATENT_SHAPE), draw(tiny_models.TEXT_SHAPE), features
    )


def describe_origin(target: str) -> dict[str, str]:
    """What a file decoded from a target of the tiny models says about how that was made."""
    settings = CLIP_IMAGE.model_dump_json() if target.startswith("clip_image") else "{}"
    return {"settings": settings, "model": json.dumps({"weights": DIGEST})}


def write_receipt(folder: Path) -> Path:
    """The receipt of all files of the tiny models."""
    storage.write_json(folder / "receipt.json", {"sha256": DIGEST})
    return folder / "receipt.json"


def in_float32(embeddings: Embeddings) -> Embeddings:
    """The same rows as jobs read them."""
    features = {name: rows.astype(np.float32) for name, rows in embeddings.features.items()}
    return Embeddings(
        embeddings.ids,
        embeddings.latents.astype(np.float32),
        embeddings.texts.astype(np.float32),
        features,
    )
