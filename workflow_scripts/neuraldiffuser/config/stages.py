"""Which configuration keys each stage reads: the registry behind every rule's settings.

``STAGES[stage][argument] = key``: the script's function receives the value of the dotted ``key`` as
its keyword ``argument``. A stage declares exactly what it reads, so a changed key reruns exactly
the stages that depend on it.
"""

import json
import re
from collections.abc import Mapping
from functools import cache, cached_property
from types import MappingProxyType
from typing import Any, get_args, get_origin, get_type_hints

from pydantic import BaseModel, TypeAdapter

from neuraldiffuser.config.base import lookup
from neuraldiffuser.config.root import Config
from neuraldiffuser.identity import canonical_json

STAGES: dict[str, dict[str, str]] = {
    "fetch_file": {
        "bucket": "nsd.bucket",
        "region": "nsd.region",
    },
    "fetch_session": {
        "bucket": "nsd.bucket",
        "region": "nsd.region",
    },
    "fetch_region_betas": {
        "bucket": "nsd.bucket",
        "region": "nsd.region",
    },
    "fetch_renormalised_betas": {
        "address": "nsd.mindeye2_url",
    },
    "fetch_captions": {
        "url": "nsd.captions_url",
        "sha256": "nsd.captions_sha256",
    },
    "unpack_captions": {},
    "prepare_voxels": {
        "normalisation": "voxels.normalisation",
        "invalid_voxels": "voxels.invalid_voxels",
        "sessions": "nsd.sessions_used.{subject}",
        "missing_sessions": "nsd.sessions_missing.{subject}",
    },
    "draw_regions": {},
    "describe_voxels": {},
    "generate_mini_world": {
        "folder": "mini.bucket",
        "world": "mini.world",
        "sessions": "nsd.sessions",
        "subjects": "subjects",
        "pretraining_subjects": "pretraining_subjects",
        "betas": "nsd.betas",
    },
    "train_mini_autoencoder": {
        "seed": "mini.training.seed",
        "training_scenes": "mini.training.autoencoder.scenes",
        "steps": "mini.training.autoencoder.steps",
        "batch": "mini.training.autoencoder.batch",
        "rate": "mini.training.autoencoder.rate",
    },
    "train_mini_clip": {
        "seed": "mini.training.seed",
        "training_scenes": "mini.training.clip.scenes",
        "steps": "mini.training.clip.steps",
        "batch": "mini.training.clip.batch",
        "rate": "mini.training.clip.rate",
    },
    "train_mini_denoiser": {
        "seed": "mini.training.seed",
        "training_scenes": "mini.training.denoiser.scenes",
        "steps": "mini.training.denoiser.steps",
        "batch": "mini.training.denoiser.batch",
        "rate": "mini.training.denoiser.rate",
    },
    "fetch_model": {
        "source": "models.zoo.{model}.source",
    },
    "check_model": {
        "loader": "models.zoo.{model}.loader",
    },
    "extract_vae_latent": {
        "settings": "targets.vae_latent",
        "precision": "targets.precision",
        "dtype": "targets.dtype",
        "sessions": "nsd.sessions",
        "seed": "seed",
    },
    "extract_clip_text": {
        "settings": "targets.clip_text",
        "precision": "targets.precision",
        "dtype": "targets.dtype",
        "sessions": "nsd.sessions",
    },
    "extract_clip_image": {
        "settings": "targets.clip_image",
        "precision": "targets.precision",
        "dtype": "targets.dtype",
        "sessions": "nsd.sessions",
    },
    "convert_gnet": {},
    "train_encoder": {
        "settings": "encoding",
        "validation_images": "decoder.validation_images",
        "seed": "seed",
    },
    "pretrain_decoder": {
        "recipe": "pretraining_recipes.{target}",
    },
    "finetune_decoder": {
        "recipe": "finetuning_recipes.{target}",
        "validation_images": "decoder.validation_images",
    },
    "train_from_scratch": {
        "recipe": "finetuning_recipes.{target}",
        "validation_images": "decoder.validation_images",
    },
    "predict_embeddings": {
        "prior_sampling": "decoder.prior_sampling",
        "alignment": "alignments.{target}",
        "test_average": "voxels.test_average",
        "missing_repeats": "voxels.missing_repeats",
        "seed": "seed",
    },
    "decode_by_ridge": {
        "settings": "decoder.ridge",
        "validation_images": "decoder.validation_images",
        "missing_repeats": "voxels.missing_repeats",
        "alignment": "alignments.{target}",
        "seed": "seed",
    },
    "collect_ground_truth": {
        "validation_images": "decoder.validation_images",
        "seed": "seed",
    },
    "calibrate_guidance": {
        "settings": "reconstruction.calibration_settings.{variant}",
        "variant": "reconstruction.calibrated_variants.{variant}",
        "clip_image": "calibrating.{variant}.clip_image",
        "missing_repeats": "calibrating.{variant}.missing_repeats",
        "seed": "seed",
    },
    "reconstruct_images": {
        "settings": "reconstruction.image_settings.{variant}",
        "variant": "reconstruction.resolved_variants.{variant}",
        "clip_image": "guiding.{variant}.clip_image",
        "missing_repeats": "guiding.{variant}.missing_repeats",
        "seed": "seed",
    },
    "select_repeats": {
        "clip_image": "targets.clip_image",
        "by": "reconstruction.selections.{selection}.by",
    },
    "evaluate_reconstructions": {
        "measures": "evaluation.measures",
        "loaders": "network_loaders",
    },
    "evaluate_encoder": {
        "bootstrap": "evaluation.bootstrap",
    },
    "evaluate_brain": {
        "regions": "reconstruction.guidance.encoder.regions",
        "share": "reconstruction.guidance.encoder.share",
        "seed": "seed",
    },
    "evaluate_brain_of_stimuli": {
        "regions": "reconstruction.guidance.encoder.regions",
        "share": "reconstruction.guidance.encoder.share",
        "seed": "seed",
    },
    "compare_brain": {
        "direction": "evaluation.brain_correlation",
        "bootstrap": "evaluation.bootstrap",
    },
    "evaluate_decoding": {
        "bootstrap": "evaluation.bootstrap",
    },
    "evaluate_retrieval": {
        "retrieval": "evaluation.retrieval",
        "bootstrap": "evaluation.bootstrap",
    },
    "compare_predictors": {
        "bootstrap": "evaluation.bootstrap",
    },
    "summarise_evaluation": {
        "judges": "evaluation.judges",
        "conventions": "evaluation.conventions",
        "variants": "reconstruction.resolved_variants",
        "selections": "reconstruction.selections",
        "bootstrap": "evaluation.bootstrap",
        "comparisons": "evaluation.comparisons",
    },
    "compare_sweep": {
        "judges": "evaluation.judges",
        "conventions": "evaluation.conventions",
        "variants": "reconstruction.variants",
        "bootstrap": "evaluation.bootstrap",
    },
    "derive_findings": {
        "variants": "reconstruction.variants",
        "selections": "reconstruction.selections",
        "findings": "evaluation.findings",
        "bootstrap": "evaluation.bootstrap",
    },
    "make_table": {
        "experiment": "presentation",
    },
    "make_figure": {
        "experiment": "presentation",
    },
    "make_gallery": {
        "images": "report.gallery_images",
        "width": "report.tile_pixels",
    },
    "make_thumbnails": {
        "width": "report.thumbnail_pixels",
        "enlarged": "report.enlarged_pixels",
    },
    "make_stimulus_thumbnails": {
        "width": "report.thumbnail_pixels",
        "enlarged": "report.enlarged_pixels",
    },
    "write_gallery": {
        "experiment": "presentation",
        "conventions": "evaluation.conventions",
    },
    "measure_switch": {
        "bootstrap": "evaluation.bootstrap",
    },
    "collect_fidelity": {
        "hours": "fidelity.hours",
    },
    "write_report": {
        "description": "description",
    },
}

VALUES = TypeAdapter(dict[str, Any])

# Which keys of the configuration stand behind what stages read of sections that only derive others.
DERIVED_KEYS = {
    r"(pretraining|finetuning)_recipes\.\w+\.budget": r"decoder.\1",
    r"\w+_recipes\.\w+\.seed": "seed",
    r"\w+_recipes\.\w+": "decoder",
    r"alignments\.\w+": "decoder.prediction.alignment",
    r"decoder\.prior_sampling": "decoder.prediction",
    r"(guiding|calibrating)\.\w+\.clip_image": "targets.clip_image",
    r"(guiding|calibrating)\.\w+\.missing_repeats": "voxels.missing_repeats",
    r"reconstruction\.(image|calibration)_settings\.\w+": "reconstruction",
    r"reconstruction\.(resolved|calibrated)_variants": "reconstruction.variants",
    r"evaluation\.(measures|conventions)": "evaluation",
    r"nsd\.sessions_used": "nsd.sessions",
    r"nsd\.sessions_missing": "nsd.missing_sessions",
    r"presentation\.(variants|selections|run)": r"reconstruction.\1",
    r"presentation\.(judges|identification|brain_correlation)": r"evaluation.\1",
    r"presentation\.interval_level": "evaluation.bootstrap.level",
    r"presentation\.(report|subjects)": r"\1",
    r"description\.betas": "nsd.betas",
    r"description\.used_models": "models.zoo",
    r"description\.(\w+)": r"\1",
}


@cache
def name_key(key: str) -> str:
    """The key of the configuration that stands behind one that a stage reads."""
    for derived, behind in DERIVED_KEYS.items():
        named, found = re.subn(rf"^{derived}\b", behind, key)
        if found:
            return named
    return key


def stage_settings(
    stage: str, config: Config, wildcards: Mapping[str, str] = MappingProxyType({})
) -> str:
    """Canonical JSON of exactly the keys that ``stage`` reads, by argument name.

    A "{variant}" inside a key is filled from the job's wildcards.
    """
    values = {
        argument: lookup(config, key.format(**wildcards)) for argument, key in STAGES[stage].items()
    }
    return canonical_json(VALUES.dump_python(values, mode="json"))


def parse_settings(stage: str, text: str) -> dict[str, Any]:
    """The keyword arguments behind ``stage_settings``, as validated models and plain values."""
    values = json.loads(text)
    return {
        argument: _typed(Config, key.split("."), values[argument])
        for argument, key in STAGES[stage].items()
    }


def _typed(model: type[BaseModel], names: list[str], value: Any) -> Any:
    """``value`` validated as the type that the dotted key has in the models."""
    annotation: Any = model
    for name in names:
        annotation = _annotation(annotation, name)
    return TypeAdapter(annotation).validate_python(value)


def _annotation(owner: Any, name: str) -> Any:
    """Type of a mapping's entry, of a field, or of a property that narrows a section."""
    if get_origin(owner) is dict:
        return get_args(owner)[1]
    if name in owner.model_fields:
        return owner.model_fields[name].annotation
    derived = getattr(owner, name)
    getter = derived.func if isinstance(derived, cached_property) else derived.fget
    return get_type_hints(getter)["return"]
