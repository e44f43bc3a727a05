"""Models of full size with random weights, in the layouts and under the names that users have.

Every name, shape and number format is the published file's: with each file's own header the bytes
add up to what the model's page states (``PUBLISHED_BYTES``). Weights are cheap normal numbers,
each tensor drawn from its own name, scaled so that activations stay near one.
"""

import gzip
import json
import math
import zlib
from collections.abc import Mapping
from pathlib import Path
from unittest import mock

import neuraldiffuser.torchvision_schemas  # noqa: F401  before diffusers, open_clip, torchvision

import torch
from safetensors.torch import save_file
from torch import nn

# What the repositories list. Writers of safetensors align the header differently, by at most 8.
PUBLISHED_BYTES = {
    "unet": 3_438_167_534,  # CompVis/stable-diffusion-v1-4
    "vae": 334_643_276,
    "text_encoder": 492_265_879,
    "ViT-B-32-quickgelu": 605_143_284,  # timm/vit_base_patch32_clip_224.openai
    "ViT-L-14-quickgelu": 1_710_517_724,  # timm/vit_large_patch14_clip_224.openai
}
# Stable Diffusion 1.4 and 1.5 and many others share these two files.
PUBLISHED_SHA256 = {
    "vocab.json": "e089ad92ba36837a0d31433e555c8f45fe601ab5c221d4f607ded32d9f7a4349",
    "merges.txt": "9fd691f7c8039210e0fced15865466c65820d09b63988b0174bfe25de299051a",
}

UNET = {
    "_class_name": "UNet2DConditionModel",
    "_diffusers_version": "0.2.2",
    "act_fn": "silu",
    "attention_head_dim": 8,
    "block_out_channels": [320, 640, 1280, 1280],
    "center_input_sample": False,
    "cross_attention_dim": 768,
    "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
    "downsample_padding": 1,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "in_channels": 4,
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-05,
    "norm_num_groups": 32,
    "out_channels": 4,
    "sample_size": 64,
    "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
}
AUTOENCODER = {
    "_class_name": "AutoencoderKL",
    "_diffusers_version": "0.2.2",
    "act_fn": "silu",
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "in_channels": 3,
    "latent_channels": 4,
    "layers_per_block": 2,
    "out_channels": 3,
    "sample_size": 512,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
}
TEXT_ENCODER = {
    "_name_or_path": "openai/clip-vit-large-patch14",
    "architectures": ["CLIPTextModel"],
    "attention_dropout": 0.0,
    "bos_token_id": 0,
    "dropout": 0.0,
    "eos_token_id": 2,
    "hidden_act": "quick_gelu",
    "hidden_size": 768,
    "initializer_factor": 1.0,
    "initializer_range": 0.02,
    "intermediate_size": 3072,
    "layer_norm_eps": 1e-05,
    "max_position_embeddings": 77,
    "model_type": "clip_text_model",
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "pad_token_id": 1,
    "torch_dtype": "float32",
    "transformers_version": "4.21.0.dev0",
    "vocab_size": 49408,
}
SCHEDULER = {
    "_class_name": "PNDMScheduler",
    "_diffusers_version": "0.7.0.dev0",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
    "clip_sample": False,
}
MODEL_INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "_diffusers_version": "0.2.2",
    "feature_extractor": ["transformers", "CLIPImageProcessor"],
    "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
    "scheduler": ["diffusers", "PNDMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}


# --- random weights -----------------------------------------------------------------------


def draw_weights(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    """Float32 weights by name; the same name and shape always give the same numbers."""
    return {name: draw(name, shape) for name, shape in shapes.items()}


def draw(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """One tensor, scaled by what its name and shape say it is."""
    if name.endswith("num_batches_tracked"):
        return torch.tensor(1000)
    if name.endswith("position_ids"):
        return torch.arange(shape[-1]).expand(shape).contiguous()
    if not shape:
        return torch.tensor(math.log(100.0))  # CLIP's logit_scale
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    values = torch.randn(shape, generator=generator)
    if name.endswith("running_var"):
        return values.abs_().mul_(0.1).add_(1)
    if len(shape) == 1:
        return values.mul_(0.2).add_(1) if name.endswith("weight") else values.mul_(0.02)
    gain = 2 if len(shape) == 4 else 1  # most convolutions feed a rectifier
    return values.mul_(math.sqrt(gain / math.prod(shape[1:])))


def shapes_of(network: nn.Module) -> dict[str, tuple[int, ...]]:
    """Names and shapes of what a network saves."""
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def write_json(path: Path, content: Mapping, **how) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2, **how) + "\n", encoding="utf-8")


# --- Stable Diffusion v1.4 in the diffusers layout -------------------------------------------


def write_stable_diffusion(folder: Path) -> Path:
    """Writes everything but the 860 million weights of ``unet``; returns ``folder``."""
    write_json(folder / "model_index.json", MODEL_INDEX)
    write_json(folder / "scheduler" / "scheduler_config.json", SCHEDULER)
    write_json(folder / "unet" / "config.json", UNET)
    write_tokenizer(folder / "tokenizer")
    write_text_encoder(folder / "text_encoder")
    write_autoencoder(folder / "vae")
    return folder


def write_tokenizer(folder: Path) -> Path:
    """Writes CLIP's real tokenizer, derived from the vocabulary that open_clip ships."""
    from open_clip.tokenizer import bytes_to_unicode, default_bpe

    with gzip.open(default_bpe()) as file:
        lines = file.read().decode("utf-8").split("\n")
    merges = lines[1 : 49152 - 256 - 2 + 1]
    letters = list(bytes_to_unicode().values())
    pieces = [
        *letters,
        *(f"{letter}</w>" for letter in letters),
        *(merge.replace(" ", "") for merge in merges),
        "<|startoftext|>",
        "<|endoftext|>",
    ]
    numbers = {piece: number for number, piece in enumerate(pieces)}
    write_json(folder / "vocab.json", numbers, ensure_ascii=False, sort_keys=True)
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")
    start, end = (
        {"content": piece, "lstrip": False, "normalized": True, "rstrip": False}
        | {"single_word": False}
        for piece in pieces[-2:]
    )
    special = {"bos_token": start, "eos_token": end, "pad_token": end["content"], "unk_token": end}
    write_json(folder / "special_tokens_map.json", special)
    named = {
        key: {"__type": "AddedToken", **token} if isinstance(token, dict) else token
        for key, token in special.items()
    }
    settings = {
        "add_prefix_space": False,
        "do_lower_case": True,
        "errors": "replace",
        "model_max_length": 77,
        "name_or_path": "openai/clip-vit-large-patch14",
        "special_tokens_map_file": "./special_tokens_map.json",
        "tokenizer_class": "CLIPTokenizer",
    }
    write_json(folder / "tokenizer_config.json", named | settings, sort_keys=True)
    return folder


def text_encoder_shapes() -> dict[str, tuple[int, ...]]:
    """As published: below ``text_model.``, with the table of positions that was a buffer then."""
    from transformers import CLIPTextConfig, CLIPTextModel

    with torch.device("meta"):
        network = CLIPTextModel(CLIPTextConfig(**TEXT_ENCODER))
    named = {
        f"text_model.{name.removeprefix('text_model.')}": shape
        for name, shape in shapes_of(network).items()
    }
    return named | {"text_model.embeddings.position_ids": (1, 77)}


def write_text_encoder(folder: Path) -> Path:
    """Writes the text tower of ViT-L/14: 12 layers, 768 wide, 77 tokens."""
    write_json(folder / "config.json", TEXT_ENCODER)
    weights = draw_weights(text_encoder_shapes())
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


LEGACY_ATTENTION = {
    ".to_q.": ".query.",
    ".to_k.": ".key.",
    ".to_v.": ".value.",
    ".to_out.0.": ".proj_attn.",
}


def autoencoder_shapes() -> dict[str, tuple[int, ...]]:
    """As published: attention still carries the names it had in 2022."""
    from diffusers import AutoencoderKL

    with torch.device("meta"):
        network = AutoencoderKL.from_config(AUTOENCODER)
    return {legacy_name(name): shape for name, shape in shapes_of(network).items()}


def legacy_name(name: str) -> str:
    """A weight's name in an autoencoder's file of 2022."""
    for today, then in LEGACY_ATTENTION.items():
        name = name.replace(today, then)
    return name


def write_autoencoder(folder: Path) -> Path:
    """Writes the autoencoder for 512-pixel images."""
    write_json(folder / "config.json", AUTOENCODER)
    weights = draw_weights(autoencoder_shapes())
    path = folder / "diffusion_pytorch_model.safetensors"
    save_file(weights, path, metadata={"format": "pt"})
    return folder


def unet_shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes of the denoiser's 860 million weights."""
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        network = UNet2DConditionModel.from_config(UNET)
    return shapes_of(network)


def write_unet(folder: Path, *, dtype: torch.dtype) -> Path:
    """Writes the denoiser in a number format of your choice."""
    write_json(folder / "config.json", UNET)
    weights = {name: draw(name, shape).to(dtype) for name, shape in unet_shapes().items()}
    path = folder / "diffusion_pytorch_model.safetensors"
    save_file(weights, path, metadata={"format": "pt"})
    return folder


# --- CLIP in open_clip's layout ----------------------------------------------------------------


def clip_configuration(name: str) -> dict:
    """What ``open_clip_config.json`` says of OpenAI's models, from open_clip's own table."""
    import open_clip

    preprocessing = {
        "mean": [0.48145466, 0.4578275, 0.40821073],
        "std": [0.26862954, 0.26130258, 0.27577711],
    }
    return {"model_cfg": open_clip.get_model_config(name), "preprocess_cfg": preprocessing}


def clip_shapes(name: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of both towers."""
    import open_clip

    with torch.device("meta"):
        return shapes_of(open_clip.CLIP(**clip_configuration(name)["model_cfg"]))


def write_clip(folder: Path, name: str) -> Path:
    """Writes OpenAI's ViT-B/32 or ViT-L/14 as timm publishes them for open_clip.

    Args:
        folder: of the model.
        name: open_clip's name of the architecture.
    """
    write_json(folder / "open_clip_config.json", clip_configuration(name))
    save_file(draw_weights(clip_shapes(name)), folder / "open_clip_model.safetensors")
    return folder


# --- networks that judge -----------------------------------------------------------------------


def build_judges() -> dict[str, nn.Module]:
    """torchvision's networks without memory for their weights, by loader."""
    from torchvision import models

    with torch.device("meta"):
        return {
            "alexnet": models.alexnet(),
            "inception_v3": models.inception_v3(init_weights=False),
            "efficientnet_b1": models.efficientnet_b1(),
            "swav_resnet50": models.resnet50(),
        }


def judge_shapes(loader: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes in the published file."""
    shapes = shapes_of(build_judges()[loader])
    if loader != "swav_resnet50":
        return shapes
    trunk = {name: shape for name, shape in shapes.items() if not name.startswith("fc.")}
    heads = {
        "projection_head.0.weight": (2048, 2048),
        "projection_head.0.bias": (2048,),
        "projection_head.1.weight": (2048,),
        "projection_head.1.bias": (2048,),
        "projection_head.1.running_mean": (2048,),
        "projection_head.1.running_var": (2048,),
        "projection_head.1.num_batches_tracked": (),
        "projection_head.3.weight": (128, 2048),
        "projection_head.3.bias": (128,),
        "prototypes.weight": (3000, 128),
    }
    return {f"module.{name}": shape for name, shape in (trunk | heads).items()}


def write_judge(path: Path, loader: str) -> Path:
    """Writes a network's weights as its published file holds them: a state dict saved by torch."""
    torch.save(draw_weights(judge_shapes(loader)), path)
    return path


def write_inception_fid(path: Path) -> Path:
    """Writes torch-fidelity's Inception of 2015 as its published file holds it."""
    from torch_fidelity import feature_extractor_inceptionv3 as library

    extractor = library.FeatureExtractorInceptionV3
    with torch.random.fork_rng():
        torch.manual_seed(0)
        with (
            mock.patch.object(extractor, "load_state_dict"),
            mock.patch.object(library, "load_state_dict_from_url"),
        ):
            network = extractor("random", ["2048"])
    torch.save(network.state_dict(), path)
    return path
