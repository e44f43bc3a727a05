"""Guided reconstruction of one sample in float64, written down from the equations, for comparison.

Nothing here comes from neuraldiffuser.diffusion: networks are loaded by their own libraries, their
attention is softmax(Q K^T / sqrt(d)) V, features are read by hooks on open_clip's blocks, the blur
is SciPy's, and the gradient takes a second pass of the UNet, as the authors' code does. Where that
code and the paper differ, the switches have their names in the configuration.
"""

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import neuraldiffuser.torchvision_schemas  # noqa: F401  before diffusers

import numpy as np
import scipy.ndimage
import torch
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as transforms

MEANS_AND_DEVIATIONS = {
    "clip": ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]),
    "imagenet": ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
}


# --- networks -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Networks:
    """The networks as their libraries have them, and the embedding of an empty caption."""

    unet: nn.Module
    autoencoder: nn.Module
    tower: nn.Module
    empty: Tensor  # (1, tokens, width)

    @property
    def middle(self) -> nn.Module:
        """The self-attention that self-attention guidance reads."""
        return self.unet.mid_block.attentions[0].transformer_blocks[0].attn1


class PlainAttention:
    """softmax(Q K^T / sqrt(d)) V for one sample, head by head; keeps its last probabilities."""

    def __call__(self, attention, states, encoder_hidden_states=None, **_unused):
        """states (1, to, width) to the same shape; the probabilities are (to, from) per head."""
        source = states if encoder_hidden_states is None else encoder_hidden_states
        query, key, value = attention.to_q(states), attention.to_k(source), attention.to_v(source)
        width = query.shape[2] // attention.heads
        self.probabilities, mixed = [], []
        for head in range(attention.heads):
            own = slice(head * width, (head + 1) * width)
            scores = query[0, :, own] @ key[0, :, own].T / math.sqrt(width)
            self.probabilities.append(scores.softmax(dim=1))
            mixed.append(self.probabilities[-1] @ value[0, :, own])
        return attention.to_out[0](torch.cat(mixed, dim=1)[None])


class PlainImageAttention:
    """The same on a map (1, c, h, w), normalised before and added to after, in the autoencoder."""

    def __call__(self, attention, states, *_unused, **_unused_too):
        """A map to one of the same shape."""
        tokens = attention.group_norm(states).flatten(2).transpose(1, 2)
        return states + PlainAttention()(attention, tokens).transpose(1, 2).reshape(states.shape)


def load_networks(path_to_stable_diffusion: Path, path_to_clip: Path) -> Networks:
    """Loads a folder in the layout of diffusers and one in the layout of open_clip."""
    import open_clip
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

    folder = Path(path_to_stable_diffusion)
    unet = UNet2DConditionModel.from_pretrained(folder / "unet")
    unet.set_attn_processor({name: PlainAttention() for name in unet.attn_processors})
    autoencoder = AutoencoderKL.from_pretrained(folder / "vae")
    autoencoder.set_attn_processor(PlainImageAttention())
    tower = open_clip.create_model(f"local-dir:{path_to_clip}", weights_only=True).visual
    tokens = CLIPTokenizer.from_pretrained(folder / "tokenizer")(
        [""], padding="max_length", return_tensors="pt"
    )
    with torch.no_grad():
        text = CLIPTextModel.from_pretrained(folder / "text_encoder")
        empty = text(tokens.input_ids).last_hidden_state.double()
    frozen = (network.double().eval().requires_grad_(False) for network in (unet, autoencoder))
    return Networks(*frozen, tower.double().eval().requires_grad_(False), empty)


# --- noise levels ---------------------------------------------------------------------------


def noise_levels() -> list[float]:
    """Stable Diffusion's alpha-bar of each training timestep.

    The betas are the squares of 1000 numbers from sqrt(.00085) to sqrt(.012). As wherever this
    model was trained or run, they and their products are rounded to float32.
    """
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float32) ** 2
    return torch.cumprod(1 - betas, dim=0).tolist()


def timesteps_to_run(steps: int, strength: float) -> list[int]:
    """The last int(strength x steps) of evenly spaced timesteps, noisiest first: 721, ..., 1."""
    stride = 1000 // steps
    return [stride * k + 1 for k in reversed(range(int(strength * steps)))]


def starting_timestep(timesteps: Sequence[int], settings: Any) -> int:
    """Timestep whose noise the decoded latent receives."""
    if settings.noise_timestep == "aligned":
        return timesteps[0]
    return int(len(timesteps) / settings.steps * 1000)  # 740: 37 of 50


def guided_indices(count: int, eta: float, which: str) -> range:
    """int(eta x count) steps: the first ones (the text), or the last (Algorithm 1 as printed)."""
    guided = int(eta * count)
    return {"first": range(guided), "last": range(count - guided, count)}[which]


# --- guidance ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Guidance:
    """What one sample is guided by: targets {layer: (tokens, width)}, the node, kappa and eta."""

    targets: Mapping[int, Tensor]
    clip_image: Any
    kappa: float
    eta: float

    def loss(self, image: Tensor, networks: Networks, settings: Any) -> Tensor:
        """L of an image (1, 3, h, w) in [0, 1]."""
        return layer_loss(clip_features(image, networks.tower, self), self, settings)


def clip_features(image: Tensor, tower: nn.Module, guidance: Guidance) -> dict[int, Tensor]:
    """An image (1, 3, h, w) in [0, 1] to {layer: (tokens, width)}, through the whole tower."""
    settings, size = guidance.clip_image, list(tower.image_size)
    resized = transforms.resize(image, size, antialias=settings.antialias)
    prepared = transforms.normalize(resized, *MEANS_AND_DEVIATIONS[settings.normalisation])
    features = {}
    with ExitStack() as hooks:
        for layer in guidance.targets:
            hooks.enter_context(
                watched_module(tower, layer, settings.node).register_forward_hook(
                    lambda _module, _inputs, output, layer=layer: features.update(
                        {layer: output[0]}
                    )
                )
            )
        tower(prepared)
    return features


def watched_module(tower: nn.Module, layer: int, node: str) -> nn.Module:
    """Block `layer`, or the second linear layer of block `layer` / 2."""
    blocks = tower.transformer.resblocks
    return blocks[layer - 1] if node == "block_output" else blocks[layer // 2 - 1].mlp.c_proj


def layer_loss(features: Mapping[int, Tensor], guidance: Guidance, settings: Any) -> Tensor:
    """Eq. 14 as printed, or the weighted mean squares of the authors' code."""
    pairs = [(features[layer], target) for layer, target in guidance.targets.items()]
    if settings.guidance.clip_layers.loss == "sum_squares":
        return sum(((f - g) ** 2).sum() for f, g in pairs)
    inverse = [1 / math.sqrt(float((g**2).sum())) for _, g in pairs]
    weights = [
        w * i / sum(inverse)
        for w, i in zip(settings.guidance.clip_layers.layer_weights, inverse, strict=True)
    ]
    return sum(w * ((f - g) ** 2).mean() for w, (f, g) in zip(weights, pairs, strict=True))


def guided_latent(
    z: Tensor, timestep: int, condition: Tensor, networks: Networks, settings: Any
) -> Tensor:
    """The latent behind the guidance, z-hat of Eq. 12, from a UNet pass of its own."""
    abar = noise_levels()[timestep]
    e = networks.unet(z, timestep, condition).sample
    if settings.guidance_prediction == "classifier_free":
        e_u = networks.unet(z, timestep, networks.empty).sample
        e = e_u + settings.classifier_free_scale * (e - e_u)
    share = math.sqrt(1 - abar) if settings.tweedie == "exact" else 1 - abar
    z_0 = (z - share * e) / math.sqrt(abar)  # Eq. 11
    if settings.latent_blend == "none":
        return z_0
    return math.sqrt(1 - abar) * z_0 + (1 - math.sqrt(1 - abar)) * z  # Eq. 12


def guidance_loss(
    z: Tensor,
    timestep: int,
    condition: Tensor,
    *,
    networks: Networks,
    settings: Any,
    guidance: Guidance,
) -> Tensor:
    """L of Eq. 14 as a function of the noisy latent (1, c, h, w), without kappa."""
    z_hat = guided_latent(z, timestep, condition, networks, settings)
    scaled = z_hat / networks.autoencoder.config.scaling_factor
    image = (networks.autoencoder.decode(scaled).sample / 2 + 0.5).clamp(0, 1)
    return guidance.loss(image, networks, settings)


# --- self-attention guidance ------------------------------------------------------------------


def blur(images: np.ndarray) -> np.ndarray:
    """Gaussian of one pixel and nine taps along the last two axes, mirrored at the borders."""
    taps = np.exp(-0.5 * np.arange(-4, 5) ** 2.0)
    taps /= taps.sum()
    for axis in (-2, -1):
        images = scipy.ndimage.correlate1d(images, taps, axis=axis, mode="mirror")
    return images


def attended_places(networks: Networks, size: tuple[int, int]) -> np.ndarray:
    """Places (h, w) that received more than 1 in the UNet's last pass, mean over heads; 0 or 1.

    Fails where a place stands so near the threshold that rounding would decide.
    """
    attention = torch.stack(networks.middle.processor.probabilities).mean(dim=0)  # (to, from)
    received = attention.sum(dim=0).numpy()
    assert np.abs(received - 1).min() > 1e-5, "rounding would decide: take another seed"
    reductions = len(networks.unet.config.down_block_types) - 1
    h, w = (math.ceil(pixels / 2**reductions) for pixels in size)
    rows, columns = np.arange(size[0]) * h // size[0], np.arange(size[1]) * w // size[1]
    return (received > 1).reshape(h, w)[np.ix_(rows, columns)].astype(float)


def degrade(z: Tensor, e_u: Tensor, attended: np.ndarray, abar: float) -> Tensor:
    """The clean estimate, blurred at the attended places, with its noise again."""
    clean = ((z - math.sqrt(1 - abar) * e_u) / math.sqrt(abar)).numpy()
    blurred = torch.from_numpy(attended * blur(clean) + (1 - attended) * clean)
    return math.sqrt(abar) * blurred + math.sqrt(1 - abar) * e_u


# --- Algorithm 1 ------------------------------------------------------------------------------


def reconstruct(
    latent: Tensor,
    noise: Tensor,
    condition: Tensor,
    *,
    networks: Networks,
    settings: Any,
    guidance: Guidance | None = None,
) -> list[Tensor]:
    """The noisy latent after every step.

    Args:
        latent: the decoded latent, (1, c, h, w).
        noise: standard normal, of that shape.
        condition: the decoded text embedding, (1, tokens, width).
        networks: in float64.
        settings: the switches of the sampler by their names in the configuration.
        guidance: None for no guided step.
    """
    levels = noise_levels()
    timesteps = timesteps_to_run(settings.steps, settings.strength)
    guided = range(0)
    if guidance:
        guided = guided_indices(len(timesteps), guidance.eta, settings.guided_steps)
    start = levels[starting_timestep(timesteps, settings)]
    z, trajectory = math.sqrt(start) * latent + math.sqrt(1 - start) * noise, []
    for index, timestep in enumerate(timesteps):
        abar = levels[timestep]
        after = levels[max(timestep - 1000 // settings.steps, 0)]  # the chain ends at alpha-bar_0
        e = removed_noise(z, timestep, condition, networks, settings)
        if index in guided:
            slope = gradient(
                z, timestep, condition, networks=networks, settings=settings, guidance=guidance
            )
            e = e + math.sqrt(1 - abar) * guidance.kappa * slope  # line 8
        z_0 = (z - math.sqrt(1 - abar) * e) / math.sqrt(abar)
        z = math.sqrt(after) * z_0 + math.sqrt(1 - after) * e  # line 9
        trajectory.append(z)
    return trajectory


@torch.no_grad()
def removed_noise(
    z: Tensor, timestep: int, condition: Tensor, networks: Networks, settings: Any
) -> Tensor:
    """Classifier-free guidance, then self-attention guidance."""
    e_u = networks.unet(z, timestep, networks.empty).sample
    attended = attended_places(networks, z.shape[2:])
    e_c = networks.unet(z, timestep, condition).sample
    e = e_u + settings.classifier_free_scale * (e_c - e_u)
    if not settings.self_attention_scale:
        return e
    degraded = degrade(z, e_u, attended, noise_levels()[timestep])
    e_degraded = networks.unet(degraded, timestep, networks.empty).sample
    return e + settings.self_attention_scale * (e_u - e_degraded)


def gradient(z: Tensor, timestep: int, condition: Tensor, **context) -> Tensor:
    """Of the loss in the noisy latent, through the tower, the decoder and the UNet at once."""
    leaf = z.clone().requires_grad_()
    return torch.autograd.grad(guidance_loss(leaf, timestep, condition, **context), leaf)[0]
