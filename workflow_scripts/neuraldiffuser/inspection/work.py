"""How much work a job is, in units whose number grows with its seconds: images, steps, trials.

What a unit costs depends on the networks that do it, so each kind of work names them: a rate holds
for the same networks on the same device.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from neuraldiffuser.config.root import Config
from neuraldiffuser.inspection.counts import count, count_images_in_use, count_test_images

Wildcards = Mapping[str, str]

# A guided step beside an unguided one, in operations of Stable Diffusion (docs/performance.md):
# (134 - 91.7) / 7 TFLOP more than 91.7 / 37.
MORE_FOR_GUIDANCE = 2.4


@dataclass(frozen=True)
class Work:
    """A job's work.

    Attributes:
        amount: how many units.
        unit: what is counted.
        networks: whose size decides what a unit costs; "" if no network takes part.
    """

    amount: float
    unit: str
    networks: str = ""


def measure_work(stage: str, config: Config, wildcards: Wildcards) -> Work:
    """How much work the job of a stage is; one of which nothing better is known is one job."""
    if stage not in WORK:
        return Work(1, "job")
    unit, amount, networks = WORK[stage]
    return Work(amount(config, wildcards), unit, networks(config, wildcards))


# --- amounts --------------------------------------------------------------------------------------


def _count_images(config: Config, _: Wildcards) -> float:
    return count_images_in_use(config)


def _count_pretraining(config: Config, _: Wildcards) -> float:
    return config.decoder.pretraining.epochs * config.decoder.pretraining.samples_per_epoch


def _count_finetuning(config: Config, _: Wildcards) -> float:
    return config.decoder.finetuning.epochs * config.decoder.finetuning.samples_per_epoch


def _count_draws(config: Config, wildcards: Wildcards) -> float:
    prediction = config.decoder.prediction
    images = _count_test(config, wildcards) + config.decoder.validation_images
    return images * prediction.prior_samples * prediction.prior_steps


def _count_training(config: Config, wildcards: Wildcards) -> float:
    return count(config, wildcards["subject"]).training_images


def _count_values(config: Config, wildcards: Wildcards) -> float:
    counted = count(config, wildcards["subject"])
    return counted.trials * counted.voxels / 1e6


def _count_encoding(config: Config, wildcards: Wildcards) -> float:
    is_fitted = config.encoding.source == "train"
    return _count_training(config, wildcards) * (
        config.encoding.training.epochs if is_fitted else 1
    )


def _count_test(config: Config, wildcards: Wildcards) -> float:
    return count_test_images(config, wildcards["subject"])


def _count_repeats(config: Config, wildcards: Wildcards) -> float:
    """Of a selection one repeat of each image is looked at."""
    is_selection = wildcards.get("variant") in config.reconstruction.selections
    repeats = 1 if is_selection else config.reconstruction.repeats
    return _count_test(config, wildcards) * repeats


def _count_calibration(config: Config, _: Wildcards) -> float:
    return config.reconstruction.calibration_images


def _count_steps(config: Config, wildcards: Wildcards) -> float:
    settings = config.reconstruction
    samples = _count_test(config, wildcards) * settings.repeats / settings.shards
    return samples * count_passes(config, wildcards["variant"])


def count_passes(config: Config, name: str) -> float:
    """Steps that an image of a variant takes; a guided one counts as what it costs."""
    settings, variant = config.reconstruction, config.reconstruction.resolved_variants[name]
    steps = int(settings.strength * settings.steps)
    guided = int(variant.strength * steps) if variant.terms else 0
    return steps + MORE_FOR_GUIDANCE * guided


def _count_tiles(config: Config, wildcards: Wildcards) -> float:
    shown = min(config.report.gallery_images, _count_test(config, wildcards))
    return shown * config.reconstruction.repeats


# --- networks -------------------------------------------------------------------------------------


def _name_nothing(_: Config, __: Wildcards) -> str:
    return ""


def _name_autoencoder(config: Config, _: Wildcards) -> str:
    of_variations = config.targets.vae_latent.autoencoder == "image_variations"
    models = config.models
    name = models.image_variations_autoencoder if of_variations else models.stable_diffusion
    return f"{name}, {config.targets.vae_latent.image_size} pixels"


def _name_diffusion(config: Config, _: Wildcards) -> str:
    return config.models.stable_diffusion


def _name_clip(config: Config, _: Wildcards) -> str:
    return config.models.clip_image


def _name_family(_: Config, wildcards: Wildcards) -> str:
    target = wildcards["target"]
    return "clip_image" if target.startswith("clip_image") else target


def _name_target(config: Config, wildcards: Wildcards) -> str:
    """A target's numbers are as many as its model says."""
    is_layer = wildcards["target"].startswith("clip_image")
    model = config.models.clip_image if is_layer else config.models.stable_diffusion
    return f"{_name_family(config, wildcards)} of {model}"


def _name_decoder(config: Config, wildcards: Wildcards) -> str:
    return f"{_name_family(config, wildcards)}, {config.decoder.network.hidden_size} wide"


def _name_encoder(config: Config, _: Wildcards) -> str:
    network = config.encoding.network
    return f"{network.trunk_width} wide, {network.image_size} pixels"


def _name_judges(config: Config, _: Wildcards) -> str:
    return ", ".join(config.judging_models)


Amount = Callable[[Config, Wildcards], float]
Name = Callable[[Config, Wildcards], str]
WORK: dict[str, tuple[str, Amount, Name]] = {
    "prepare_voxels": ("million values", _count_values, _name_nothing),
    "extract_vae_latent": ("image", _count_images, _name_autoencoder),
    "extract_clip_text": ("image", _count_images, _name_diffusion),
    "extract_clip_image": ("image", _count_images, _name_clip),
    "pretrain_decoder": ("trial", _count_pretraining, _name_decoder),
    "finetune_decoder": ("trial", _count_finetuning, _name_decoder),
    "train_from_scratch": ("trial", _count_finetuning, _name_decoder),
    "predict_embeddings": ("step", _count_draws, _name_decoder),
    "decode_by_ridge": ("image", _count_training, _name_target),
    "train_encoder": ("image", _count_encoding, _name_encoder),
    "calibrate_guidance": ("image", _count_calibration, _name_diffusion),
    "reconstruct_images": ("step", _count_steps, _name_diffusion),
    "select_repeats": ("image", _count_repeats, _name_clip),
    "evaluate_brain": ("image", _count_repeats, _name_encoder),
    "evaluate_brain_of_stimuli": ("image", _count_test, _name_encoder),
    "evaluate_reconstructions": ("image", _count_repeats, _name_judges),
    "evaluate_decoding": ("image", _count_test, _name_nothing),
    "evaluate_retrieval": ("image", _count_test, _name_nothing),
    "make_gallery": ("image", _count_tiles, _name_nothing),
    "make_thumbnails": ("image", _count_repeats, _name_nothing),
}
