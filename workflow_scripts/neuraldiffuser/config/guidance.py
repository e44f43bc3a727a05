"""Settings of the guidance functions, and what each needs from the rest of the workflow.

A function enters here with a settings class, which names what builds it, and with a field of
``GuidanceSettings``, whose name is the function's.
"""

from collections.abc import Iterable
from typing import Any, ClassVar, Literal, NamedTuple, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from neuraldiffuser.config.base import Section
from neuraldiffuser.config.models import ModelSettings
from neuraldiffuser.config.targets import ClipImageSettings, TargetSettings

LATENT, VOXELS = "vae_latent", "voxels"
Region = Literal["nsdgeneral", "V1", "V2", "V3", "V4", "higher"]  # those of nsd.rois.regions


class Needs(NamedTuple):
    """What the rules fetch for a function.

    Attributes:
        targets: what guides each image: embeddings by name, or ``voxels``, as measured.
        models: models of the zoo by the name under which the function finds their folder.
        encoder: whether it reads the subject's brain-encoding model.
    """

    targets: tuple[str, ...] = ()
    models: dict[str, str] = {}
    encoder: bool = False


class FunctionSettings(Section):
    """Settings of one guidance function.

    Attributes:
        builder: ``module:function`` that builds it; only jobs that it guides import the module.
    """

    builder: ClassVar[str]

    @property
    def used(self) -> Self:
        """The same with what is not read at one value, so that changing it reruns nothing."""
        return self

    def needs(self, targets: TargetSettings, models: ModelSettings) -> Needs:  # noqa: ARG002
        """What the function reads, given the experiment's targets and models."""
        return Needs(targets=(LATENT,))


class ClipLayersSettings(FunctionSettings):
    """Primary visual feature guidance (Section 4.3): distance to decoded CLIP image layers."""

    builder = "neuraldiffuser.diffusion.guidance.clip_layers:build_clip_layers"

    loss: Literal["sum_squares", "weighted_mean"] = Field(
        "weighted_mean",
        description="sum_squares (Eq. 14), or weighted_mean, the authors' code: mean squares,"
        " weighted by the inverse norm of the target and layer_weights.",
    )
    layer_weights: tuple[float, ...] = Field(
        (1.5, 1.2, 1.0, 1.0, 1.0, 1.0),
        min_length=1,
        description="Weight of each guidance layer, shallow to deep, in weighted_mean (authors'"
        " code).",
    )

    @property
    def used(self) -> Self:
        """A plain sum of squares weights no layer."""
        if self.loss == "weighted_mean":
            return self
        return self.model_copy(update={"layer_weights": tuple(1.0 for _ in self.layer_weights)})

    def needs(self, targets: TargetSettings, models: ModelSettings) -> Needs:
        """The decoded layers and the tower that they are layers of."""
        layers = tuple(f"clip_image_{layer:02d}" for layer in targets.clip_image.layers)
        return Needs(targets=layers, models={"clip_image": models.clip_image})


class EncoderSettings(FunctionSettings):
    """Brain-encoding guidance (Table 4): distance of predicted voxels to the measured ones."""

    builder = "neuraldiffuser.diffusion.guidance.encoder:build_encoder"

    loss: Literal["mean_squares", "correlation"] = Field(
        "mean_squares",
        description="mean_squares over voxels, or correlation: one minus it, over voxels.",
    )
    regions: tuple[Region, ...] = Field(
        ("nsdgeneral",),
        min_length=1,
        description="Regions whose voxels guide: nsdgeneral is all, higher all but V1 to V4.",
    )
    share: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Seeded share of those voxels that guides. Brain correlation is scored on all"
        " voxels and, of every variant alike, on those alone that do not guide.",
    )
    weighting: Literal["equal", "accuracy"] = Field(
        "equal",
        description="Weight of a voxel: equal, or accuracy: the encoder's squared correlation on"
        " held-out training images.",
    )

    def needs(self, targets: TargetSettings, models: ModelSettings) -> Needs:  # noqa: ARG002
        """The measured voxels and the subject's encoder."""
        return Needs(targets=(VOXELS,), encoder=True)


class ColorSettings(FunctionSettings):
    """Mean colours on a grid, beside those of the image that the decoded latent stands for."""

    builder = "neuraldiffuser.diffusion.guidance.color:build_color"

    grid: int = Field(8, ge=1, description="Cells a side; divides the image's.")


class EdgesSettings(FunctionSettings):
    """Edge strengths, beside those of the image that the decoded latent stands for."""

    builder = "neuraldiffuser.diffusion.guidance.edges:build_edges"

    size: int = Field(64, ge=8, description="Pixels a side at which edges are found.")
    blur: float = Field(1.0, ge=0, description="Standard deviation of the blur, in pixels.")


class GuidanceSettings(Section):
    """Guidance functions by name; a variant names those that guide it."""

    clip_layers: ClipLayersSettings = Field(
        ClipLayersSettings(), description=ClipLayersSettings.__doc__
    )
    encoder: EncoderSettings = Field(EncoderSettings(), description=EncoderSettings.__doc__)
    color: ColorSettings = Field(ColorSettings(), description=ColorSettings.__doc__)
    edges: EdgesSettings = Field(EdgesSettings(), description=EdgesSettings.__doc__)


class UsedGuidance(GuidanceSettings):
    """Settings of the functions that guide a variant; of the others nothing is written."""

    @model_serializer(mode="wrap")
    def _write_what_is_used(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in write(self).items() if name in self.model_fields_set}


class GuidingSettings(Section):
    """How what guides was made, whichever functions read it."""

    clip_image: ClipImageSettings = ClipImageSettings()
    missing_repeats: Literal["skipped", "padded"] = "padded"


FunctionName = Literal[tuple(GuidanceSettings.model_fields)]
BUILDERS = {name: field.annotation.builder for name, field in GuidanceSettings.model_fields.items()}


def code_of(functions: Iterable[str]) -> tuple[str, ...]:
    """Names of the modules of guidance functions."""
    return tuple(sorted({BUILDERS[name].partition(":")[0] for name in functions}))
