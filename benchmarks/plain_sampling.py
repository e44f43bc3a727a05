"""Reconstruction as the released code does it, written plainly: the peers' way of ``sampling.py``.

One image at a time, and at each step: the denoiser on the pair of empty caption and condition, with
the attention of its middle block written down; again on the latent blurred where that attention
lies; at guided steps a third time on the condition alone, for a gradient from all layers of the
CLIP tower, whose hooks read, through decoder and denoiser; and a decoding of the latent as it is.
Weights are float32 as diffusers loads them; where ``half``, passes are rounded by autocast.

Facts, not code, are from HaoyyLi/NeuralDiffuser, src/recon.py and
src/modules/stable_diffusion_pipe/guided_diffusion.py, and from diffusers' pipeline of
self-attention guidance. Noise is given, so that images can be compared; the released code draws it
from the global generator.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import neuraldiffuser.torchvision_schemas  # noqa: F401  before everything that loads torchvision

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import Tensor, nn
from torch.nn import functional
from torchvision.transforms import functional as transforms

from neuraldiffuser.config.reconstruction import Reconstruction
from neuraldiffuser.config.targets import ClipImageSettings
from neuraldiffuser.diffusion.schedule import load_scheduler
from neuraldiffuser.features.clip_image import load_visual
from neuraldiffuser.features.clip_text import load_clip_text
from neuraldiffuser.features.images import MEANS_AND_DEVIATIONS

BLUR_WIDTH, BLUR_SIGMA = 9, 1.0


@dataclass(frozen=True)
class Given:
    """What one image is made from, each with a batch axis of one.

    Attributes:
        latent: decoded.
        noise: of the latent's shape.
        condition: embedded caption, (1, tokens, width).
        features: that guide, by target; none without guidance.
        scale: of the guidance.
        guided_steps: how many of the first steps are guided.
    """

    latent: Tensor
    noise: Tensor
    condition: Tensor
    features: dict[str, Tensor]
    scale: float = 0.0
    guided_steps: int = 0


# --- networks ------------------------------------------------------------------------------------


class WrittenAttention:
    """Attention of one module with its probabilities written down and kept."""

    probabilities: Tensor  # (samples x heads, from, to)

    def __call__(
        self,
        attention: nn.Module,
        states: Tensor,
        encoder_hidden_states: None = None,
        attention_mask: None = None,
    ) -> Tensor:
        """Self-attention among the tokens of ``states``."""
        assert encoder_hidden_states is None and attention_mask is None
        query, key, value = (
            attention.head_to_batch_dim(project(states))
            for project in (attention.to_q, attention.to_k, attention.to_v)
        )
        self.probabilities = attention.get_attention_scores(query, key)
        mixed = attention.batch_to_head_dim(self.probabilities @ value)
        return attention.to_out[0](mixed)


class HookedTower:
    """The whole image tower of CLIP, with hooks on the layers that guide."""

    def __init__(self, visual: nn.Module, settings: ClipImageSettings) -> None:
        self.visual = visual
        self.settings = settings
        self.seen: dict[str, Tensor] = {}
        for layer in settings.layers:
            self.module_of(layer).register_forward_hook(self.keep(f"clip_image_{layer:02d}"))

    def module_of(self, layer: int) -> nn.Module:
        """The module whose output is the layer."""
        blocks = self.visual.transformer.resblocks
        if self.settings.node == "block_output":
            return blocks[layer - 1]
        return blocks[layer // 2 - 1].mlp.c_proj

    def keep(self, name: str) -> Callable:
        """A hook that keeps what a module returns."""

        def hook(_module, _inputs, output) -> None:
            self.seen[name] = output

        return hook

    def __call__(self, image: Tensor) -> dict[str, Tensor]:
        """The layers of (1, 3, h, w) in [0, 1], by target."""
        mean, deviation = (
            image.new_tensor(values)[:, None, None]
            for values in MEANS_AND_DEVIATIONS[self.settings.normalisation]
        )
        size = list(self.visual.image_size)
        resized = transforms.resize(image, size, antialias=self.settings.antialias)
        self.visual((resized - mean) / deviation)
        return dict(self.seen)


@dataclass(frozen=True)
class Levels:
    """Levels of noise.

    Attributes:
        scheduler: steps between them.
        timesteps: the last int(strength x steps) of the steps.
        start: the timestep whose noise the first of them starts with, 37 / 50 of 1000.
        abars: share of signal by timestep.
    """

    scheduler: DDIMScheduler
    timesteps: list[int]
    start: int
    abars: list[float]


def lay_out(scheduler: DDIMScheduler, settings: Reconstruction) -> Levels:
    """The levels of a reconstruction."""
    used = int(settings.strength * settings.steps)
    scheduler.set_timesteps(settings.steps)
    return Levels(
        scheduler=scheduler,
        timesteps=scheduler.timesteps.tolist()[-used:],
        start=int(used / settings.steps * scheduler.config.num_train_timesteps),
        abars=scheduler.alphas_cumprod.tolist(),
    )


@dataclass(frozen=True)
class Released:
    """The networks of the released way and what they share.

    Attributes:
        unet: the denoiser.
        attention: what its middle block pays.
        autoencoder: decodes latents.
        tower: guides.
        levels: of noise.
        empty: embedding of the empty caption, (1, tokens, width).
        settings: scales, and weights of layers.
        half: whether passes are rounded to float16.
    """

    unet: nn.Module
    attention: WrittenAttention
    autoencoder: nn.Module
    tower: HookedTower
    levels: Levels
    empty: Tensor
    settings: Reconstruction
    half: bool

    def predict(self, z: Tensor, timestep: int, condition: Tensor) -> Tensor:
        """The noise in a latent."""
        return self.unet(z, timestep, encoder_hidden_states=condition).sample

    def decode(self, z: Tensor) -> Tensor:
        """A latent's image in [0, 1]."""
        image = self.autoencoder.decode(z / self.autoencoder.config.scaling_factor).sample
        return (image / 2 + 0.5).clamp(0, 1)


def load_released(
    models: Path,
    settings: Reconstruction,
    clip_image: ClipImageSettings,
    *,
    device: str,
    half: bool,
) -> Released:
    """Loads ``stable-diffusion`` and ``clip`` of a folder."""
    path = models / "stable-diffusion"
    unet, autoencoder = (
        kind.from_pretrained(
            path / folder, local_files_only=True, use_safetensors=True, dtype=torch.float32
        )
        for kind, folder in ((UNet2DConditionModel, "unet"), (AutoencoderKL, "vae"))
    )
    return assemble(
        unet.to(device),
        autoencoder.to(device),
        load_visual(models / "clip").to(device),
        levels=lay_out(load_scheduler(path), settings),
        empty=load_clip_text(path, device=device).embed([""]),
        settings=settings,
        clip_image=clip_image,
        half=half,
    )


def assemble(
    unet: nn.Module,
    autoencoder: nn.Module,
    visual: nn.Module,
    *,
    levels: Levels,
    empty: Tensor,
    settings: Reconstruction,
    clip_image: ClipImageSettings,
    half: bool,
) -> Released:
    """Keeps the middle block's attention and hooks the tower."""
    attention = WrittenAttention()
    unet.mid_block.attentions[0].transformer_blocks[0].attn1.set_processor(attention)
    return Released(
        unet=unet.eval(),
        attention=attention,
        autoencoder=autoencoder.eval(),
        tower=HookedTower(visual.eval().requires_grad_(False), clip_image),
        levels=levels,
        empty=empty,
        settings=settings,
        half=half,
    )


# --- the loop ------------------------------------------------------------------------------------


@torch.no_grad()
def reconstruct_plainly(released: Released, given: Given) -> tuple[Tensor, Tensor]:
    """The clean latent (1, c, h, w) and its image (1, 3, H, W) in [0, 1], on the host."""
    levels = released.levels
    with torch.autocast(given.latent.device.type, torch.float16, enabled=released.half):
        z = noised(released, given)
        images = []
        for index, timestep in enumerate(levels.timesteps):
            e = removed_noise(released, z, timestep, given.condition)
            if index < given.guided_steps:
                e = e + given.scale * guidance_term(released, z, timestep, given)
            z = levels.scheduler.step(e, timestep, z).prev_sample
            images.append(released.decode(z).cpu())
    return z.cpu(), images[-1]


@torch.no_grad()
def first_ratio(released: Released, given: Given) -> float:
    """Norm of the guidance at scale 1 over that of the denoiser's noise, in the first step."""
    z, timestep = noised(released, given), released.levels.timesteps[0]
    with torch.autocast(z.device.type, torch.float16, enabled=released.half):
        removed = removed_noise(released, z, timestep, given.condition)
        term = guidance_term(released, z, timestep, given)
    return float(term.float().norm() / removed.float().norm())


def noised(released: Released, given: Given) -> Tensor:
    """The latent that the first step starts from."""
    start = torch.tensor([released.levels.start])
    return released.levels.scheduler.add_noise(given.latent, given.noise, start)


def removed_noise(released: Released, z: Tensor, timestep: int, condition: Tensor) -> Tensor:
    """Classifier-free and self-attention guidance."""
    settings = released.settings
    pair = torch.cat([released.empty, condition])
    e_u, e_c = released.predict(torch.cat([z, z]), timestep, pair).chunk(2)
    degraded = blur_attended(released, z, e_u, timestep)
    e_degraded = released.predict(degraded, timestep, released.empty)
    guided = e_u + settings.classifier_free_scale * (e_c - e_u)
    return guided + settings.self_attention_scale * (e_u - e_degraded)


def blur_attended(released: Released, z: Tensor, e_u: Tensor, timestep: int) -> Tensor:
    """The latent, its clean estimate blurred where the prediction without condition attends."""
    abar = released.levels.abars[timestep]
    clean = (z - (1 - abar) ** 0.5 * e_u) / abar**0.5
    probabilities = released.attention.probabilities.chunk(2)[0]  # (heads, from, to), of e_u
    factor = 2 ** (len(released.unet.config.down_block_types) - 1)
    attended = probabilities.mean(dim=0).sum(dim=0) > 1
    attended = attended.unflatten(0, (z.shape[-2] // factor, -1))[None, None]
    mask = functional.interpolate(attended.to(z), size=z.shape[-2:])
    blurred = transforms.gaussian_blur(clean.float(), [BLUR_WIDTH] * 2, [BLUR_SIGMA] * 2)
    mixed = blurred * mask + clean * (1 - mask)
    return released.levels.scheduler.add_noise(mixed, e_u, torch.tensor([timestep]))


@torch.enable_grad()
def guidance_term(released: Released, z: Tensor, timestep: int, given: Given) -> Tensor:
    """What guidance adds to the noise at scale 1, from a pass of its own."""
    abar = released.levels.abars[timestep]
    z = z.detach().requires_grad_()
    e_c = released.predict(z, timestep, given.condition)
    clean = (z - (1 - abar) * e_c) / abar**0.5
    spread = (1 - abar) ** 0.5
    image = released.decode(spread * clean + (1 - spread) * z)
    weights = released.settings.guidance.clip_layers.layer_weights
    loss = weighted_distance(released.tower(image), given.features, weights)
    (gradient,) = torch.autograd.grad(loss, z)
    return spread * gradient


def weighted_distance(
    seen: dict[str, Tensor], wanted: dict[str, Tensor], weights: tuple[float, ...]
) -> Tensor:
    """Mean squares of layers by weight and by the inverse norm of what is wanted."""
    inverse = torch.stack([1 / wanted[name].norm() for name in wanted])
    shares = inverse / inverse.sum() * inverse.new_tensor(weights)
    return sum(
        share * functional.mse_loss(seen[name].float(), wanted[name])
        for share, name in zip(shares, wanted, strict=True)
    )
