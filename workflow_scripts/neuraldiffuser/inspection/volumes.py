"""Bytes: of what is fetched, of what a job leaves, and so what an experiment needs in its folders.

Files of models have the sizes of their pins, NSD's files those that it publishes, and arrays those
of their shapes. Files of a few MB (tables, figures, curves, small pictures) are left out.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from neuraldiffuser import storage
from neuraldiffuser.config.models import PretrainedModel
from neuraldiffuser.config.reconstruction import STIMULUS, name_maker
from neuraldiffuser.config.root import Config
from neuraldiffuser.inspection.counts import (
    count,
    count_images_in_use,
    count_test_images,
)
from neuraldiffuser.models.presence import is_skipped, name_place
from neuraldiffuser.nsd import files
from neuraldiffuser.nsd.locations import is_remote

GB = 10**9
MB = 10**6
BYTES_OF = {"float16": 2, "float32": 4}
# Of files whose pins state no size (docs/models.md).
UNPINNED_WEIGHTS = {
    "efficientnet_b1-c27df63c.pth": 31 * MB,
    "swav_800ep_pretrain.pth.tar": 250 * MB,
}
SMALL_FILE = 100_000  # a configuration or a vocabulary
CAPTIONS_ARCHIVE = 253 * MB  # COCO's; its two files of captions are 96 MB
CAPTIONS = 96 * MB
STIMULI = 73_000 * 425 * 425 * 3
# Parameters of decoders beside the voxel encoder, and the width of those (docs/performance.md).
DECODER_PARAMETERS = {"vae_latent": 141.7e6, "clip_text": 433.5e6, "clip_image": 348.5e6}
DECODER_WIDTH = 4096
# Shapes of the targets of Stable Diffusion v1.4 and ViT-B/32.
TEXT_SHAPE, LAYER_SHAPE, LATENT_CHANNELS, PIXELS_PER_LATENT = (77, 768), (50, 768), 4, 8
READOUT_PER_VOXEL = 512 + 625 + 169  # of an encoder: weights and two receptive fields
TRUNK = 6_000_000


@dataclass(frozen=True)
class Download:
    """Something that comes over a network.

    Attributes:
        what: in words.
        folder: where it goes.
        size: in bytes.
        is_there: whether it need not be fetched any more.
    """

    what: str
    folder: Path
    size: int
    is_there: bool


# --- downloads ------------------------------------------------------------------------------------


def list_downloads(config: Config) -> list[Download]:
    """All that the experiment needs from elsewhere, whether or not it is there already."""
    return [*_list_nsd(config), *_list_captions(config), *_list_models(config)]


def _list_nsd(config: Config) -> Iterator[Download]:
    if not config.nsd.is_fetched_from_a_network:
        return
    data = Path(config.paths.data)
    if is_remote(config.nsd.bucket):
        stimuli = data / files.STIMULI
        yield Download("stimuli", data, STIMULI, stimuli.is_file())
    kind = "mindeye2" if config.nsd.source == "mindeye2" else config.nsd.fetched_format
    size = round(files.GIGABYTES_PER_SESSION[kind] * GB)
    for subject in config.everybody:
        sessions = config.nsd.sessions_used[subject]
        if kind == "mindeye2":
            path = data / files.renormalised_betas(subject)
            yield Download("betas", data, size * len(sessions), path.is_file())
            continue
        names = files.all_session_betas(
            subject, sessions=sessions, version=config.nsd.betas, file_format=kind
        )
        for name in names:
            yield Download("betas", data, size, (data / name).is_file())


def _list_captions(config: Config) -> Iterator[Download]:
    if is_remote(config.nsd.captions_url):
        archive = Path(config.paths.data, files.CAPTIONS_ARCHIVE)
        yield Download("captions", Path(config.paths.data), CAPTIONS_ARCHIVE, archive.is_file())


def _list_models(config: Config) -> Iterator[Download]:
    for name, model in config.used_models.items():
        folder = Path(config.paths.models, name)
        if model.is_fetched and not is_skipped(config, name):
            for file in model.files:
                is_there = (folder / file).is_file()
                yield Download(name, Path(config.paths.models), size_of_file(model, file), is_there)


def size_of_file(model: PretrainedModel, file: str) -> int:
    """Bytes of a model's file: its pin's, or about."""
    pinned = model.files[file].size
    return pinned if pinned is not None else UNPINNED_WEIGHTS.get(file, SMALL_FILE)


# --- results --------------------------------------------------------------------------------------


def shape_of(config: Config, target: str) -> tuple[int, ...]:
    """Of one image's embedding; read off the models' own configurations where they are there."""
    if target == "vae_latent":
        told = _read_configuration(config, config.models.stable_diffusion, "vae/config.json")
        levels = len(told["block_out_channels"]) - 1 if told else math.log2(PIXELS_PER_LATENT)
        side = int(config.targets.vae_latent.image_size / 2**levels)
        return told.get("latent_channels", LATENT_CHANNELS), side, side
    if target == "clip_text":
        told = _read_configuration(
            config, config.models.stable_diffusion, "text_encoder/config.json"
        )
        tokens, width = TEXT_SHAPE
        return told.get("max_position_embeddings", tokens), told.get("hidden_size", width)
    told = _read_configuration(config, config.models.clip_image, "open_clip_config.json")
    vision = told.get("model_cfg", {}).get("vision_cfg")
    if vision is None:
        return LAYER_SHAPE
    return (vision["image_size"] // vision["patch_size"]) ** 2 + 1, vision["width"]


def _read_configuration(config: Config, name: str, file: str) -> Mapping:
    path = Path(name_place(config, name), file)
    return storage.read_json(path) if path.is_file() else {}


def size_of_job(stage: str, config: Config, wildcards: Mapping[str, str]) -> int:
    """Bytes, about, that a job's files take in the folder of results; 0 where they are small."""
    return round(SIZES[stage](config, wildcards)) if stage in SIZES else 0


def _size_of_voxels(config: Config, wildcards: Mapping[str, str]) -> float:
    counted = count(config, wildcards["subject"])
    return 4 * counted.voxels * counted.trials


def _size_of_target(config: Config, target: str) -> float:
    values = count_images_in_use(config) * math.prod(shape_of(config, target))
    return values * BYTES_OF[config.targets.dtype]


def _size_of_latents(config: Config, _: Mapping[str, str]) -> float:
    return _size_of_target(config, "vae_latent")


def _size_of_texts(config: Config, _: Mapping[str, str]) -> float:
    return _size_of_target(config, "clip_text")


def _size_of_layers(config: Config, _: Mapping[str, str]) -> float:
    return len(config.targets.clip_image.layers) * _size_of_target(config, "clip_image")


def _size_of_decoder(config: Config, wildcards: Mapping[str, str], subjects: list[str]) -> float:
    width = config.decoder.network.hidden_size
    target = wildcards["target"]
    family = "clip_image" if target.startswith("clip_image") else target
    inner = DECODER_PARAMETERS[family] * (width / DECODER_WIDTH) ** 2
    return 4 * (inner + width * sum(count(config, subject).voxels for subject in subjects))


def _size_of_pretrained(config: Config, wildcards: Mapping[str, str]) -> float:
    others = [name for name in config.pretraining_subjects if name != wildcards["subject"]]
    return _size_of_decoder(config, wildcards, others)


def _size_of_finetuned(config: Config, wildcards: Mapping[str, str]) -> float:
    return _size_of_decoder(config, wildcards, [wildcards["subject"]])


def _size_of_embeddings(config: Config, wildcards: Mapping[str, str]) -> float:
    """Embeddings, and beside them projections, or what they were before alignment."""
    subject = wildcards.get("subject", STIMULUS)
    images = count_test_images(config, subject) + config.decoder.validation_images
    return 2 * 4 * images * math.prod(shape_of(config, wildcards["target"]))


def _size_of_encoder(config: Config, wildcards: Mapping[str, str]) -> float:
    return 4 * (TRUNK + READOUT_PER_VOXEL * count(config, wildcards["subject"]).voxels)


def _size_of_shard(config: Config, wildcards: Mapping[str, str]) -> float:
    settings = config.reconstruction
    images = count_test_images(config, wildcards["subject"]) * settings.repeats
    return images * 3 * config.targets.vae_latent.image_size**2 / settings.shards


SIZES = {
    "prepare_voxels": _size_of_voxels,
    "extract_vae_latent": _size_of_latents,
    "extract_clip_text": _size_of_texts,
    "extract_clip_image": _size_of_layers,
    "pretrain_decoder": _size_of_pretrained,
    "finetune_decoder": _size_of_finetuned,
    "train_from_scratch": _size_of_finetuned,
    "predict_embeddings": _size_of_embeddings,
    "decode_by_ridge": _size_of_embeddings,
    "collect_ground_truth": _size_of_embeddings,
    "train_encoder": _size_of_encoder,
    "reconstruct_images": _size_of_shard,
}


def size_of_results(config: Config) -> int:
    """Bytes, about, that a finished experiment takes in the folder of results."""
    return sum(size_of_job(stage, config, each) for stage, each in _list_large_jobs(config))


def _list_large_jobs(config: Config) -> Iterator[tuple[str, dict[str, str]]]:
    """Stage and wildcards of every job whose files are large."""
    for subject in config.everybody:
        yield "prepare_voxels", {"subject": subject}
    for stage in ("extract_vae_latent", "extract_clip_text", "extract_clip_image"):
        yield stage, {}
    trained = ["pretrain_decoder", "finetune_decoder", "predict_embeddings"]
    trained += ["decode_by_ridge"] if "ridge" in config.decoder.controls else []
    for target in config.targets.names:
        yield "collect_ground_truth", {"target": target}
        for subject in config.subjects:
            for stage in trained:
                yield stage, {"target": target, "subject": subject}
            if "scratch" in config.decoder.controls and target != "vae_latent":
                for stage in ("train_from_scratch", "predict_embeddings"):
                    yield stage, {"target": target, "subject": subject}
    for subject in config.subjects:
        yield "train_encoder", {"subject": subject}
    settings = config.reconstruction
    for name in dict.fromkeys(name_maker(each, settings.selections) for each in settings.run):
        from_brain = settings.variants[name].source == "brain"
        for subject in config.subjects if from_brain else [STIMULUS]:
            for shard in range(settings.shards):
                yield (
                    "reconstruct_images",
                    {"variant": name, "subject": subject, "shard": str(shard)},
                )
