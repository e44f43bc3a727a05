"""The denoiser, and how much attention its middle block pays to each place of the latent.

Attention is computed by diffusers' fused scaled_dot_product_attention everywhere. Only for the
first self-attention of the middle block, and only for the samples that ask for it, the
probabilities are computed once more and summed: fused attention never writes them down. That
block's processor does so, since a compiled network runs it but no hook that is added later.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import local
from typing import NamedTuple

import torch
from torch import Tensor, nn

from neuraldiffuser.errors import DataError


class Denoised(NamedTuple):
    """Predicted noise (n, c, h, w), and the attention each place receives (m, h', w') or None."""

    noise: Tensor
    attention: Tensor | None


class Denoiser:
    """A UNet2DConditionModel as a function of latent, timestep and condition."""

    def __init__(self, unet: nn.Module) -> None:
        """Raises DataError if the UNet has no self-attention in its middle block."""
        self.unet = unet
        self.reductions = len(unet.config.down_block_types) - 1
        try:
            self.attention = unet.mid_block.attentions[0].transformer_blocks[0].attn1
        except (AttributeError, IndexError) as error:
            raise DataError(
                "The UNet has no self-attention in its middle block, which self-attention guidance"
                " reads; use a model such as stable-diffusion-v1-4."
            ) from error
        self.recorder = AttentionRecorder(self.attention.processor)
        self.attention.set_processor(self.recorder)

    def __call__(
        self, latents: Tensor, timestep: int, condition: Tensor, *, attended: int = 0
    ) -> Denoised:
        """Predicts the noise in latents (n, c, h, w) under condition (n, tokens, width).

        Args:
            latents: noisy latents.
            timestep: the training timestep of their noise level.
            condition: text embeddings.
            attended: for how many samples, counted from the first, attention is reported.
        """
        timesteps = torch.full((len(latents),), timestep, device=latents.device)
        self.recorder.ask(attended)
        noise = self.unet(latents, timesteps, condition, return_dict=False)[0]
        if not attended:
            return Denoised(noise, None)
        return Denoised(noise, self.recorder.take().unflatten(1, self.map_size(latents)))

    def map_size(self, latents: Tensor) -> tuple[int, int]:
        """Height and width of the middle block's map: halved, rounding up, at each reduction."""
        factor = 2**self.reductions
        return -(-latents.shape[-2] // factor), -(-latents.shape[-1] // factor)


class AttentionRecorder:
    """A self-attention processor that also says how much attention each token receives.

    What is asked for and recorded belongs to the thread that denoises: several may do so at once.
    """

    def __init__(self, processor: Callable[..., Tensor]) -> None:
        """Takes the processor that computes the attention itself."""
        self.processor = processor
        self._thread = local()

    def ask(self, count: int) -> None:
        """Has the attention of the next pass recorded for its first `count` samples."""
        self._thread.count = count

    def take(self) -> Tensor:
        """What the last pass recorded, float32 (count, tokens)."""
        return self._thread.__dict__.pop("received")

    @torch.compiler.disable
    def __call__(self, attention: nn.Module, states: Tensor, *arguments, **options) -> Tensor:
        """As the processor; states are (n, tokens, width)."""
        if count := getattr(self._thread, "count", 0):
            self._thread.received = received_attention(attention, states[:count].detach())
        return self.processor(attention, states, *arguments, **options)


@torch.no_grad()
def received_attention(attention: nn.Module, states: Tensor) -> Tensor:
    """Attention that each token receives: mean over heads, summed over the tokens that attend.

    Args:
        attention: diffusers' Attention, used as self-attention.
        states: its input, (n, tokens, width).

    Returns:
        float32 (n, tokens); they sum to the number of tokens.
    """
    query, key = attention.to_q(states), attention.to_k(states)
    # Unscaled products leave the range of float16.
    whole = torch.promote_types(states.dtype, torch.float32)
    query, key = (
        part.to(whole).unflatten(2, (attention.heads, -1)).transpose(1, 2) for part in (query, key)
    )
    weights = (query @ key.transpose(2, 3)).float() * attention.scale  # (n, heads, from, to)
    return weights.softmax(dim=3).mean(dim=1).sum(dim=1)
