"""Tiny models with random weights, written in the folder layouts of the real ones.

``write_stable_diffusion`` writes what diffusers and transformers load with ``from_pretrained``
(tokenizer, text_encoder, vae, unet with attention in its middle block, scheduler);
``write_clip`` writes what open_clip loads as ``local-dir:``. Both are small enough for a test to
build its own: under half a second each.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

IMAGE_SIZE = 32
LATENT_SHAPE = (4, 8, 8)
TEXT_SHAPE = (12, 16)
CLIP_SHAPE = (17, 16)
CLIP_BLOCKS = 12
WORDS = ("a", "red", "blue", "round", "square", "on", "grass", "sand", "the", "sky", "big")


def write_stable_diffusion(folder: Path, *, seed: int = 0) -> Path:
    """Writes a tiny Stable Diffusion in the diffusers layout; returns ``folder``."""
    write_tokenizer(folder / "tokenizer")
    for name, build in COMPONENTS.items():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            build().save_pretrained(folder / name)
    index = {"_class_name": "StableDiffusionPipeline", "_diffusers_version": "0.30.0"}
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def write_tokenizer(folder: Path) -> Path:
    """Writes CLIP's byte-pair tokenizer over letters: a word is as many tokens as letters."""
    folder.mkdir(parents=True, exist_ok=True)
    letters = sorted({letter for word in WORDS for letter in word})
    pieces = [*letters, *(letter + "</w>" for letter in letters)]
    vocabulary = [*pieces, "<|startoftext|>", "<|endoftext|>"]
    numbers = {piece: number for number, piece in enumerate(vocabulary)}
    (folder / "vocab.json").write_text(json.dumps(numbers))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    settings = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": TEXT_SHAPE[0],
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def build_text_encoder() -> nn.Module:
    """A CLIPTextModel of two layers for ``TEXT_SHAPE``."""
    import neuraldiffuser.torchvision_schemas  # noqa: F401  before transformers

    from transformers import CLIPTextConfig, CLIPTextModel

    tokens, width = TEXT_SHAPE
    letters = len({letter for word in WORDS for letter in word})
    vocabulary = 2 * letters + 2
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocabulary,
            hidden_size=width,
            intermediate_size=2 * width,
            projection_dim=width,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=tokens,
            hidden_act="quick_gelu",
            bos_token_id=vocabulary - 2,
            eos_token_id=vocabulary - 1,
            pad_token_id=vocabulary - 1,
        )
    )


def build_vae() -> nn.Module:
    """An AutoencoderKL that maps 32-pixel images to ``LATENT_SHAPE``."""
    import neuraldiffuser.torchvision_schemas  # noqa: F401  before diffusers

    from diffusers import AutoencoderKL

    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(8, 16, 16),
        layers_per_block=1,
        latent_channels=LATENT_SHAPE[0],
        norm_num_groups=4,
        sample_size=IMAGE_SIZE,
        scaling_factor=0.5,
    )


def build_unet() -> nn.Module:
    """A UNet2DConditionModel for ``LATENT_SHAPE`` with attention in its middle block."""
    import neuraldiffuser.torchvision_schemas  # noqa: F401  before diffusers

    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=LATENT_SHAPE[-1],
        in_channels=LATENT_SHAPE[0],
        out_channels=LATENT_SHAPE[0],
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=TEXT_SHAPE[1],
        attention_head_dim=2,
        norm_num_groups=4,
    )


def build_scheduler():
    """Stable Diffusion 1.4's noise schedule, as a DDIMScheduler."""
    import neuraldiffuser.torchvision_schemas  # noqa: F401  before diffusers

    from diffusers import DDIMScheduler

    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


COMPONENTS = {
    "text_encoder": build_text_encoder,
    "vae": build_vae,
    "unet": build_unet,
    "scheduler": build_scheduler,
}


def clip_configuration() -> dict:
    """open_clip's description of the tiny CLIP: 12 visual blocks, 17 tokens of width 16."""
    return {
        "embed_dim": 8,
        "quick_gelu": True,
        "vision_cfg": {
            "image_size": IMAGE_SIZE,
            "patch_size": 8,
            "layers": CLIP_BLOCKS,
            "width": CLIP_SHAPE[1],
            "head_width": 8,
            "mlp_ratio": 2.0,
        },
        "text_cfg": {
            "context_length": 8,
            "vocab_size": 20,
            "layers": 1,
            "width": 16,
            "heads": 2,
        },
    }


def write_clip(folder: Path, *, seed: int = 0) -> Path:
    """Writes a tiny CLIP that open_clip loads as ``local-dir:<folder>``; returns ``folder``."""
    import neuraldiffuser.torchvision_schemas  # noqa: F401  before open_clip

    import open_clip

    folder.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        weights = open_clip.CLIP(**clip_configuration()).state_dict()
    save_file(weights, folder / "open_clip_model.safetensors")
    configuration = {"model_cfg": clip_configuration(), "preprocess_cfg": {"size": IMAGE_SIZE}}
    (folder / "open_clip_config.json").write_text(json.dumps(configuration))
    return folder
