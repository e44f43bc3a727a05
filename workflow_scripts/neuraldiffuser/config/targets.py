"""What the decoders learn to predict, and how it is computed from stimuli and captions."""

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from neuraldiffuser.config.base import Section


class VaeLatentSettings(Section):
    """The low-level target: a latent of the image."""

    autoencoder: Literal["stable_diffusion", "image_variations"] = Field(
        "image_variations",
        description="Whose encoder: the one that also decodes (stable_diffusion; paper, "
        "corrected), or that of Stable Diffusion Image Variations (released).",
    )
    posterior: Literal["mode", "sample"] = Field(
        "mode",
        description="Mean of the encoder's distribution (mode; released training target, "
        "corrected), or one draw from it, seeded by image (sample; released upper bound).",
    )
    image_size: int = Field(
        512,
        ge=8,
        multiple_of=8,
        description="Pixels a side at which images are encoded; the latent is an eighth of it in "
        "Stable Diffusion.",
    )
    source_size: int | None = Field(
        224,
        ge=8,
        description="Shrink images to this size first and enlarge them again, as the released "
        "training target does with 224; null encodes the stimuli themselves (paper, corrected).",
    )


class ClipTextSettings(Section):
    """The semantic target: the text encoder's states for an image's captions."""

    captions: Literal["mean", "first"] = Field(
        "mean",
        description="Average of the embeddings of all captions (mean; paper and released), or "
        "the first caption's (first).",
    )


class ClipImageSettings(Section):
    """The guidance targets: activations inside a CLIP image tower."""

    layers: tuple[int, ...] = Field(
        (2, 4, 6, 8, 10, 12),
        description="Layers, named as in the paper; each becomes the target clip_image_NN.",
    )
    node: Literal["block_output", "mlp_projection"] = Field(
        "mlp_projection",
        description="What layer l means: the output of residual block l (block_output; paper, "
        "corrected), or the MLP's last projection in block l/2 before the residual sum "
        "(mlp_projection; what the released code's hooks really read: blocks 1 to 6).",
    )
    normalisation: Literal["clip", "imagenet"] = Field(
        "imagenet",
        description="Channel means and deviations: CLIP's own (clip; corrected) or ImageNet's "
        "(imagenet; released).",
    )
    antialias: bool = Field(
        False,
        description="Whether shrinking filters before it samples (true; corrected); with the "
        "torchvision of the released code's time it did not (false).",
    )

    @field_validator("layers")
    @classmethod
    def _layers_rise(cls, layers: tuple[int, ...]) -> tuple[int, ...]:
        if not layers or list(layers) != sorted(set(layers)) or not 1 <= layers[0] <= 99:
            raise ValueError("layers must be different, ascending numbers from 1 to 99")
        return layers

    @model_validator(mode="after")
    def projections_have_even_numbers(self) -> Self:
        """Layer 2k is block k's projection; an odd one would read the block of another layer."""
        odd = [layer for layer in self.layers if layer % 2]
        if self.node == "mlp_projection" and odd:
            raise ValueError(
                f"layers names {odd[0]}, but with node mlp_projection layer 2k is the projection "
                "of block k; name even layers, or set node to block_output"
            )
        return self


class TargetSettings(Section):
    """Ground-truth targets: one file each, with a row per image in use."""

    precision: Literal["float32", "bfloat16", "float16"] = Field(
        "float16",
        description="Number format of the models' weights and passes: float16, nearest to the "
        "released extraction's autocast on a GPU, or float32 (corrected), several times faster "
        "than the others on a CPU.",
    )
    dtype: Literal["float16", "float32"] = Field(
        "float16", description="Precision in which targets are stored."
    )
    vae_latent: VaeLatentSettings = Field(
        VaeLatentSettings(), description="The image's latent, target of the low-level decoder."
    )
    clip_text: ClipTextSettings = Field(
        ClipTextSettings(), description="The captions' embedding, target of the semantic decoder."
    )
    clip_image: ClipImageSettings = Field(
        ClipImageSettings(), description="CLIP image layers, targets of the guidance decoders."
    )

    @property
    def names(self) -> tuple[str, ...]:
        """Every target."""
        layers = (f"clip_image_{layer:02d}" for layer in self.clip_image.layers)
        return ("vae_latent", "clip_text", *layers)
