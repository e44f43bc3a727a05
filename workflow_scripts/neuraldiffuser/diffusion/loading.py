"""What a reconstruction job needs before its first step: networks, schedule, guidance, scales."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from neuraldiffuser import runtime, storage
from neuraldiffuser.config.reconstruction import Sampling, Variant
from neuraldiffuser.config.targets import ClipImageSettings
from neuraldiffuser.diffusion.compatibility import refuse_other_voxels, refuse_strangers
from neuraldiffuser.diffusion.embeddings import Conditions, open_conditions
from neuraldiffuser.diffusion.guidance import (
    GUIDANCE,
    Guidance,
    GuidanceSource,
    SummedGuidance,
)
from neuraldiffuser.diffusion.guidance.decoded_image import decode_each_once
from neuraldiffuser.diffusion.models import load_latent_diffusion
from neuraldiffuser.diffusion.reconstruct import Engine, Guided, decode_in_parts
from neuraldiffuser.diffusion.schedule import load_scheduler, make_schedule
from neuraldiffuser.diffusion.variants import GuidingFile, open_guiding


@dataclass(frozen=True)
class Materials:
    """What a job works with.

    Attributes:
        engine: model, schedule, settings and seed.
        source: what guidance functions are built from.
        conditions: what every sample starts from and is conditioned on.
        guiding: what guides, by target.
    """

    engine: Engine
    source: GuidanceSource
    conditions: Conditions
    guiding: Mapping[str, GuidingFile]


def load_materials(
    *,
    paths_to_conditions: Sequence[Path | str],
    paths_to_guiding: Sequence[Path | str],
    paths_to_encoder: Sequence[Path | str],
    paths_to_models: Mapping[str, Path | str],
    paths_to_receipts: Sequence[Path | str],
    settings: Sampling,
    clip_image: ClipImageSettings,
    missing_repeats: str,
    seed: int,
) -> Materials:
    """Opens the inputs of a variant and loads its networks; see ``reconstruct_images``.

    Raises:
        DataError: an input is missing or damaged, or was decoded for other models or settings.
    """
    refuse_strangers(
        [*paths_to_conditions, *paths_to_guiding],
        clip_image=clip_image,
        paths_to_receipts=paths_to_receipts,
    )
    refuse_other_voxels(paths_to_guiding, paths_to_encoder)
    models = dict(paths_to_models)
    engine = load_engine(
        Path(models.pop("stable_diffusion")), settings, seed=seed, device=runtime.execution().device
    )
    conditions = open_conditions(paths_to_conditions)
    return Materials(
        engine=engine,
        source=name_sources(
            engine, paths_to_models=models, paths_to_encoder=paths_to_encoder, clip_image=clip_image
        ),
        conditions=conditions,
        guiding=open_guiding(
            paths_to_guiding,
            held_out=conditions.latents.ids("validation"),
            missing_repeats=missing_repeats,
        ),
    )


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


def name_sources(
    engine: Engine,
    *,
    paths_to_models: Mapping[str, Path | str],
    paths_to_encoder: Iterable[Path | str],
    clip_image: ClipImageSettings,
) -> GuidanceSource:
    """What guidance functions are built from, around the engine that they guide.

    Args:
        engine: whose model decodes, and whose settings and seed hold.
        paths_to_models: folders by name; clip_image is one where CLIP guides.
        paths_to_encoder: encoders/{subject}.safetensors and .h5, where the encoder guides.
        clip_image: what the CLIP layers are.
    """
    encoder = dict(zip(("encoder", "accuracy"), paths_to_encoder, strict=False))
    named = {name: Path(path) for name, path in (dict(paths_to_models) | encoder).items()}
    return GuidanceSource(
        settings=engine.settings.guidance,
        clip_image=clip_image,
        paths=named,
        decode=decode_each_once(partial(decode_in_parts, engine.model)),
        seed=engine.seed,
        device=str(engine.model.device),
    )


def choose_dtype(precision: str, *, device: str) -> torch.dtype:
    """The number format of the networks; says so where the device is slow at it."""
    if device == "cpu" and precision != "float32":
        runtime.logger.warning(
            "Processors are several times slower in %s; on a machine without a GPU, set"
            " reconstruction.precision to float32.",
            precision,
        )
    return getattr(torch, precision)


def load_functions(source: GuidanceSource, names: Iterable[str]) -> dict[str, Guidance]:
    """Guidance functions by name."""
    return {name: GUIDANCE[name](source) for name in names}


def read_scales(
    name: str, variant: Variant, paths_to_calibrations: Iterable[Path | str]
) -> dict[str, float]:
    """The scale of each function that guides a variant: a number, its calibration or a lender's.

    Args:
        name: the variant's.
        variant: its functions, each with its scale.
        paths_to_calibrations: calibrations/{variant}/{subject}.json, its own and the lenders'.
    """
    found = {Path(path).parent.name: storage.read_json(path) for path in paths_to_calibrations}
    return {
        function: term.scale_factor
        * (
            found[name if term.scale == "auto" else term.scale][function]["scale"]
            if isinstance(term.scale, str)
            else term.scale
        )
        for function, term in variant.terms.items()
    }


def sum_guidance(
    functions: Mapping[str, Guidance], scales: Mapping[str, float], *, strength: float
) -> Guided | None:
    """The functions, each with its scale, as one; None if there are none."""
    terms = {name: (function, scales[name]) for name, function in functions.items()}
    return Guided(SummedGuidance(terms), strength) if terms else None


def describe(variant: Variant, scales: Mapping[str, float]) -> dict[str, str | float]:
    """What a file of reconstructions says about how they were made."""
    made = {
        "source": variant.source,
        "guidance": " + ".join(scales) or "none",
        "features": variant.features,
        "strength": variant.strength,
    }
    return made | {f"scale_{function}": scale for function, scale in scales.items()}
