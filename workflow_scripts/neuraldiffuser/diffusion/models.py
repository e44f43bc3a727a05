"""The latent diffusion model: denoiser, decoder and the embedding of an empty caption."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from neuraldiffuser import runtime
from neuraldiffuser.diffusion.attention import Denoised, Denoiser
from neuraldiffuser.features.clip_text import load_clip_text
from neuraldiffuser.features.pretrained import load_pretrained
from neuraldiffuser.features.vae_latent import load_autoencoder


@dataclass(frozen=True)
class LatentDiffusion:
    """Frozen networks. Latents stay in their own dtype; the networks compute in theirs."""

    denoiser: Denoiser
    autoencoder: nn.Module
    unconditional: Tensor  # (tokens, width), the embedding of an empty caption

    @property
    def dtype(self) -> torch.dtype:
        """The number format of the networks."""
        return self.unconditional.dtype

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return self.unconditional.device

    @property
    def compiled_parts(self) -> tuple[nn.Module, nn.Module]:
        """What is worth compiling."""
        return self.denoiser.unet, self.autoencoder.decoder

    def denoise(
        self, latents: Tensor, timestep: int, condition: Tensor, *, attended: int = 0
    ) -> Denoised:
        """Predicts the noise in latents (n, c, h, w); see Denoiser."""
        noise, attention = self.denoiser(
            latents.to(self.dtype), timestep, condition.to(self.dtype), attended=attended
        )
        return Denoised(noise.to(latents.dtype), attention)

    def decode(self, latents: Tensor) -> Tensor:
        """Scaled latents (n, c, h, w) to images (n, 3, H, W) in [0, 1]."""
        scaled = latents.to(self.dtype) / self.autoencoder.config.scaling_factor
        images = self.autoencoder.decode(scaled, return_dict=False)[0]
        return (images.to(latents.dtype) / 2 + 0.5).clamp(0, 1)

    def recompute_decoder(self, wanted: bool) -> None:
        """Whether the decoder computes activations twice rather than keep them for a gradient."""
        if wanted:
            self.autoencoder.enable_gradient_checkpointing()
        else:
            self.autoencoder.disable_gradient_checkpointing()

    def prepare(self) -> None:
        """Lays the weights out as a GPU's convolutions read them; on a CPU it gains nothing."""
        runtime.record(precision=str(self.dtype).removeprefix("torch."))
        if self.device.type == "cpu":
            return
        torch.backends.cudnn.benchmark = True
        for network in (self.denoiser.unet, self.autoencoder):
            network.to(memory_format=torch.channels_last)


def load_latent_diffusion(
    path: Path, *, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> LatentDiffusion:
    """Loads a model from a folder in the diffusers layout, safetensors only, never a network.

    Args:
        path: folder with unet, vae, text_encoder and tokenizer.
        device: torch device.
        dtype: number format of the weights and passes.

    Raises:
        DataError: a component is missing or unreadable.
    """
    autoencoder = load_autoencoder(path / "vae", device=device, dtype=dtype)
    autoencoder.encoder = None  # latents are only decoded here
    text = load_clip_text(path, device=device, dtype=torch.float32)
    return LatentDiffusion(
        denoiser=Denoiser(load_unet(path / "unet", device=device, dtype=dtype)),
        autoencoder=autoencoder,
        unconditional=text.embed([""])[0].to(device, dtype),
    )


def load_unet(path: Path, *, device: str = "cpu", dtype: torch.dtype = torch.float32) -> nn.Module:
    """Loads a frozen UNet2DConditionModel from a folder with config.json and safetensors.

    Raises:
        DataError: a file or a weight is missing or unreadable.
    """
    from diffusers import UNet2DConditionModel

    return load_pretrained(UNet2DConditionModel, path, device=device, dtype=dtype)
