"""The miniature's models: real architectures, only smaller, in their usual folder layouts.

A miniature Stable Diffusion (diffusers' components: tokenizer, text_encoder, vae,
unet, scheduler) and a miniature CLIP (open_clip), whose text tower becomes Stable
Diffusion's text encoder, as it was for the real one. Everything that loads the real
models loads these: `from_pretrained(folder, subfolder=...)` and
`open_clip.create_model("local-dir:<folder>")`.
"""

from __future__ import annotations

import copy
import json
import os
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import neuraldiffuser.torchvision_schemas  # noqa: F401

import open_clip
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from safetensors.torch import save_file
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

IMAGE_SIZE = 64
LATENT_CHANNELS = 4
LATENT_SIZE = 16
TOKENS = 26  # start + at most 21 words + end, padded with end
TEXT_WIDTH = 96
TEXT_LAYERS = 3
TEXT_HEADS = 4
EMBEDDING = 64  # joint space of pictures and captions
START, END = "<|startoftext|>", "<|endoftext|>"


# --- tokenizer -------------------------------------------------------------------------


def letters(word: str) -> tuple[str, ...]:
    """A word as CLIP's byte-pair encoding starts from it: the last letter marks the end."""
    return (*word[:-1], word[-1] + "</w>")


def merge_pair(pieces: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    """`pieces` with every occurrence of the adjacent `pair` joined."""
    merged: list[str] = []
    for piece in pieces:
        if merged and (merged[-1], piece) == pair:
            merged[-1] += piece
        else:
            merged.append(piece)
    return tuple(merged)


def byte_pair_merges(words: Sequence[str]) -> list[tuple[str, str]]:
    """Merges, most frequent pair first, until every word is one piece."""
    split = [letters(word) for word in words]
    merges: list[tuple[str, str]] = []
    while any(len(pieces) > 1 for pieces in split):
        pairs = Counter(pair for pieces in split for pair in zip(pieces, pieces[1:], strict=False))
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        split = [merge_pair(pieces, best) for pieces in split]
    return merges


def build_tokenizer(words: Sequence[str]) -> CLIPTokenizer:
    """A CLIP tokenizer to which each of `words` is one token; other words are spelt."""
    merges = byte_pair_merges(words)
    alphabet = "abcdefghijklmnopqrstuvwxyz"
    pieces = [
        *alphabet,
        *(letter + "</w>" for letter in alphabet),
        *("".join(pair) for pair in merges),
    ]
    tokens = [*dict.fromkeys(pieces), START, END]
    return CLIPTokenizer(
        vocab={token: number for number, token in enumerate(tokens)},
        merges=merges,
        model_max_length=TOKENS,
    )


def tokenize(tokenizer: CLIPTokenizer, texts: Sequence[str]) -> torch.Tensor:
    """Captions as token numbers, int64 (texts, TOKENS), padded with the end token."""
    padded = tokenizer(
        list(texts), padding="max_length", max_length=TOKENS, truncation=True, return_tensors="pt"
    )
    return padded["input_ids"]


# --- architectures ---------------------------------------------------------------------


def build_autoencoder() -> AutoencoderKL:
    """Pictures (n, 3, 64, 64) in -1..1 to latents (n, 4, 16, 16) and back."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(16, 32, 64),
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=8,
        sample_size=IMAGE_SIZE,
    )


def clip_configuration(vocabulary_size: int) -> dict:
    """open_clip's description of the miniature CLIP."""
    vision = {
        "image_size": IMAGE_SIZE,
        "patch_size": 8,
        "layers": 12,
        "width": 80,
        "head_width": 20,
    }
    text = {
        "context_length": TOKENS,
        "vocab_size": vocabulary_size,
        "layers": TEXT_LAYERS,
        "width": TEXT_WIDTH,
        "heads": TEXT_HEADS,
    }
    return {"embed_dim": EMBEDDING, "vision_cfg": vision, "text_cfg": text}


def build_clip(vocabulary_size: int) -> open_clip.CLIP:
    """Picture and caption towers with random weights."""
    return open_clip.CLIP(**clip_configuration(vocabulary_size))


def build_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """Stable Diffusion's text encoder: captions to states (n, TOKENS, TEXT_WIDTH)."""
    configuration = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=TEXT_WIDTH,
        intermediate_size=4 * TEXT_WIDTH,
        projection_dim=EMBEDDING,
        num_hidden_layers=TEXT_LAYERS,
        num_attention_heads=TEXT_HEADS,
        max_position_embeddings=TOKENS,
        hidden_act="gelu",
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModel(configuration)


def build_denoiser() -> UNet2DConditionModel:
    """Noise predictor; attention at 8x8, at 4x4 and in the middle, none at 16x16."""
    return UNet2DConditionModel(
        sample_size=LATENT_SIZE,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=(48, 64, 128),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=4,
        norm_num_groups=16,
    )


def build_scheduler() -> DDIMScheduler:
    """Stable Diffusion 1.4's noise schedule."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type="epsilon",
    )


# --- CLIP's text tower as Stable Diffusion's text encoder ------------------------------


def converted_block(block: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """One transformer block's weights, from open_clip's names to transformers'."""
    names = {
        "ln_1": "layer_norm1",
        "ln_2": "layer_norm2",
        "mlp.c_fc": "mlp.fc1",
        "mlp.c_proj": "mlp.fc2",
        "attn.out_proj": "self_attn.out_proj",
    }
    converted = {}
    for kind in ("weight", "bias"):
        converted |= {f"{new}.{kind}": block[f"{old}.{kind}"] for old, new in names.items()}
        projections = block[f"attn.in_proj_{kind}"].chunk(3)
        for letter, projection in zip("qkv", projections, strict=True):
            converted[f"self_attn.{letter}_proj.{kind}"] = projection
    return converted


def convert_text_tower(clip: open_clip.CLIP, tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """A text encoder whose last hidden states equal those of `clip`'s text tower."""
    encoder = build_text_encoder(tokenizer)
    weights = {
        "embeddings.token_embedding.weight": clip.token_embedding.weight,
        "embeddings.position_embedding.weight": clip.positional_embedding,
        "final_layer_norm.weight": clip.ln_final.weight,
        "final_layer_norm.bias": clip.ln_final.bias,
    }
    for number, block in enumerate(clip.transformer.resblocks):
        for name, value in converted_block(block.state_dict()).items():
            weights[f"encoder.layers.{number}.{name}"] = value
    prefix = (
        "text_model."
        if any(name.startswith("text_model.") for name in encoder.state_dict())
        else ""
    )
    named = {prefix + name: value.detach().clone() for name, value in weights.items()}
    encoder.load_state_dict(named, strict=True)
    return encoder.eval()


def text_states(encoder: CLIPTextModel, tokens: torch.Tensor) -> torch.Tensor:
    """The condition of the denoiser: last hidden states, float (n, TOKENS, TEXT_WIDTH)."""
    return encoder(tokens).last_hidden_state


# --- folders ---------------------------------------------------------------------------

MODEL_INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "_diffusers_version": "0.30.0",
    "feature_extractor": [None, None],
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
    "requires_safety_checker": False,
}


def replace_folder(temporary: Path, folder: Path) -> None:
    """Put a finished folder in its place: the old one vanishes only once the new is whole."""
    outgoing = folder.with_name(f".{folder.name}.outgoing")
    shutil.rmtree(outgoing, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    if folder.exists():
        os.replace(folder, outgoing)
    os.replace(temporary, folder)
    shutil.rmtree(outgoing, ignore_errors=True)


def incoming(path_to_folder: Path) -> Path:
    """An empty neighbour of a folder, to be filled and then put in the folder's place."""
    path_to_folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = path_to_folder.with_name(f".{path_to_folder.name}.incoming")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    return temporary


def save_component(component: nn.Module, path_to_folder: Path) -> None:
    """A diffusers or transformers model: its configuration and float16 safetensors.

    The configuration asks for float32, else transformers would compute in float16.
    """
    temporary = incoming(path_to_folder)
    copy.deepcopy(component).half().save_pretrained(temporary)
    path_to_config = temporary / "config.json"
    configuration = json.loads(path_to_config.read_text())
    if "dtype" in configuration:
        configuration["dtype"] = "float32"
    path_to_config.write_text(json.dumps(configuration, indent=2, sort_keys=True) + "\n")
    replace_folder(temporary, path_to_folder)


def save_tokenizer(tokenizer: CLIPTokenizer, path_to_folder: Path) -> None:
    """A tokenizer in both spellings: tokenizer.json, and vocab.json with merges.txt."""
    temporary = incoming(path_to_folder)
    tokenizer.save_pretrained(temporary)
    tokenizer.backend_tokenizer.model.save(str(temporary))
    replace_folder(temporary, path_to_folder)


def save_scheduler(scheduler: DDIMScheduler, path_to_folder: Path) -> None:
    """A noise schedule's configuration."""
    temporary = incoming(path_to_folder)
    scheduler.save_pretrained(temporary)
    replace_folder(temporary, path_to_folder)


def save_clip(clip: open_clip.CLIP, path_to_folder: Path) -> None:
    """A CLIP in open_clip's local layout, float16; pixels are normalised as CLIP's are."""
    temporary = incoming(path_to_folder)
    preprocess = {
        "mean": list(open_clip.OPENAI_DATASET_MEAN),
        "std": list(open_clip.OPENAI_DATASET_STD),
    }
    description = {"model_cfg": clip_configuration(clip.vocab_size), "preprocess_cfg": preprocess}
    (temporary / "open_clip_config.json").write_text(json.dumps(description, indent=2) + "\n")
    weights = {name: value.half().contiguous() for name, value in clip.state_dict().items()}
    save_file(weights, temporary / "open_clip_model.safetensors")
    replace_folder(temporary, path_to_folder)


def save_model_index(path_to_stable_diffusion: Path) -> None:
    """The file by which diffusers recognises a folder of components as a pipeline."""
    path_to_stable_diffusion.mkdir(parents=True, exist_ok=True)
    text = json.dumps(MODEL_INDEX, indent=2) + "\n"
    (path_to_stable_diffusion / "model_index.json").write_text(text)
