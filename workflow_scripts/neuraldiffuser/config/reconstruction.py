"""Settings of the guided reconstruction: sampler, guidance, and the named variants to run."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from neuraldiffuser.config.base import Section, narrow

VariantName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


class Variant(Section):
    """One way to reconstruct every test image; a column of Table 2, a control, an upper bound."""

    source: Literal["brain", "stimulus"] = Field(
        "brain",
        description="Where the embeddings come from: decoded from each subject's brain, or from the"
        " stimuli themselves (Fig. 9, once for all subjects).",
    )
    guidance: Literal["clip_layers", "none"] = Field(
        "clip_layers", description="Guidance function: CLIP image layers, or none."
    )
    scale: float | Literal["auto"] | VariantName = Field(
        300_000.0,
        description="Guidance scale kappa (paper: 300000): a number; auto, calibrated on held-out"
        " training images; or the name of another variant, whose scale is used.",
    )
    scale_factor: float = Field(
        1.0, ge=0, description="Multiple of that scale, for sweeps relative to another variant."
    )
    ratio: float = Field(
        0.5,
        gt=0,
        description="With scale auto: median norm of the guidance over that of the denoiser's noise"
        " in the first guided step. Noisy features stand 0.2 to 1, true ones several times more.",
    )
    strength: float = Field(
        0.2, ge=0, le=1, description="Guidance strength eta: the share of steps that are guided."
    )
    features: Literal["own", "another_image", "mean"] = Field(
        "own",
        description="Features that guide: the image's own; as controls, another test image's, or"
        " the mean over training images.",
    )


class Sampling(Section):
    """The guided sampler (Section 4.3, Algorithm 1): everything that one image depends on."""

    steps: int = Field(50, ge=1, le=500, description="DDIM steps of a whole reverse diffusion.")
    strength: float = Field(
        0.75, gt=0, le=1, description="Share of those steps that is run, from the decoded latent."
    )
    classifier_free_scale: float = Field(
        7.5, ge=0, description="Classifier-free guidance scale (paper: 7.5)."
    )
    self_attention_scale: float = Field(
        0.75, ge=0, description="Self-attention guidance scale (paper: 0.75); 0 saves a third pass."
    )
    tweedie: Literal["exact", "released"] = Field(
        "released",
        description="Estimate of the clean latent behind the guidance (Eq. 11): exact subtracts"
        " sqrt(1 - abar) eps; released subtracts (1 - abar) eps, as the authors' code does.",
    )
    noise_timestep: Literal["aligned", "released"] = Field(
        "released",
        description="Noise level of the initial latent: aligned with the first step that is run"
        " (721 of 1000); released: int(37/50 of 1000) = 740, as the authors' code has it.",
    )
    guided_steps: Literal["first", "last"] = Field(
        "first",
        description="Which eta of the steps are guided: first (the text and the authors' code), or"
        " last (Algorithm 1 as printed).",
    )
    guidance_loss: Literal["sum_squares", "weighted_mean"] = Field(
        "weighted_mean",
        description="Loss over CLIP layers: sum_squares (Eq. 14), or weighted_mean, the authors'"
        " code: mean squares, weighted by the inverse norm of the target and layer_weights.",
    )
    layer_weights: tuple[float, ...] = Field(
        (1.5, 1.2, 1.0, 1.0, 1.0, 1.0),
        min_length=1,
        description="Weight of each guidance layer, shallow to deep, in weighted_mean (authors'"
        " code).",
    )
    latent_blend: Literal["noise_level", "none"] = Field(
        "noise_level",
        description="Latent that is decoded for the guidance: blended with the noisy one by noise"
        " level (Eq. 12), or the clean estimate alone.",
    )
    guidance_prediction: Literal["conditional", "classifier_free"] = Field(
        "conditional",
        description="Noise behind the clean estimate: the conditional prediction (paper, authors'"
        " code), or the classifier-free combination (universal guidance).",
    )
    precision: Literal["float32", "bfloat16", "float16"] = Field(
        "float16",
        description="Number format of the diffusion model's weights and passes; the guidance"
        " function itself and the sampler's own arithmetic are float32. A CPU is fastest in"
        " float32.",
    )
    non_finite_gradients: Literal["stop", "clip"] = Field(
        "stop",
        description="What becomes of a guidance gradient that is not finite: stop with an error, or"
        " clip: infinities to the sample's largest finite value, what is no number to zero.",
    )
    batch_size: int = Field(
        8,
        ge=1,
        description="Samples (image x repeat) reconstructed together on a CPU, where another size"
        " changes the last bits; a GPU takes as many as fit into its memory.",
    )


class ImageSettings(Sampling):
    """The sampler, and how many samples of which images a job makes."""

    repeats: int = Field(5, ge=1, description="Reconstructions of each image, from other noise.")
    shards: int = Field(
        20, ge=1, description="Jobs among which a subject's test images are divided."
    )


class CalibrationSettings(Sampling):
    """The sampler, and how many held-out images choose a guidance scale."""

    calibration_images: int = Field(
        32, ge=1, description="Held-out training images that calibrate a guidance scale."
    )


def sweep(factor: float, strength: float) -> Variant:
    """A column of Table 2: `factor` times the scale of the variant `guided`."""
    return Variant(scale="guided", scale_factor=factor, strength=strength)


# The ten columns of Table 2: these eight, guided (kappa 300000, eta 0.2) and unguided. A name
# holds percent of guided's scale and percent of steps.
TABLE_2 = {
    "scale_1_strength_100": sweep(0.01, 1.0),
    "scale_10_strength_100": sweep(0.1, 1.0),
    "scale_100_strength_100": sweep(1.0, 1.0),
    "scale_100_strength_80": sweep(1.0, 0.8),
    "scale_100_strength_60": sweep(1.0, 0.6),
    "scale_100_strength_40": sweep(1.0, 0.4),
    "scale_100_strength_10": sweep(1.0, 0.1),
    "scale_1000_strength_100": sweep(10.0, 1.0),
}

VARIANTS = {
    "guided": Variant(),
    "unguided": Variant(guidance="none"),
    "wrong_image": Variant(scale="guided", features="another_image"),
    "mean_feature": Variant(scale="guided", features="mean"),
    "ground_truth_guided": Variant(source="stimulus", ratio=2.0),
    "ground_truth_unguided": Variant(source="stimulus", guidance="none"),
} | TABLE_2


class Reconstruction(ImageSettings, CalibrationSettings):
    """Guided reconstruction with the decoded embeddings."""

    variants: dict[VariantName, Variant] = Field(
        default_factory=lambda: dict(VARIANTS),
        description="Named variants; a name becomes a folder of results.",
    )
    run: tuple[VariantName, ...] = Field(
        tuple(VARIANTS), min_length=1, description="Variants that are run and evaluated."
    )

    @property
    def image_settings(self) -> ImageSettings:
        """What reconstructing images depends on, whatever the other variants are."""
        return narrow(self, ImageSettings)

    @property
    def calibration_settings(self) -> CalibrationSettings:
        """What calibrating a guidance scale depends on."""
        return narrow(self, CalibrationSettings)

    @property
    def resolved_variants(self) -> dict[str, Variant]:
        """The variants; one that takes another's number has that number itself."""
        return {
            name: resolve_scale(variant, self.variants) for name, variant in self.variants.items()
        }

    @model_validator(mode="after")
    def refer_to_known_variants(self) -> "Reconstruction":
        """Every variant that is run, or lends its scale, exists and fits."""
        for name in self.run:
            if name not in self.variants:
                raise ValueError(f"run names {name}; known variants are {', '.join(self.variants)}")
        for name, variant in self.variants.items():
            if isinstance(variant.scale, str) and variant.scale != "auto":
                check_lender(name, variant, self.variants)
        return self


def resolve_scale(variant: Variant, variants: dict[str, Variant]) -> Variant:
    """The variant with the number of the one that lends its scale; unchanged if that is auto."""
    lender = variants.get(variant.scale)
    if lender is None or lender.scale == "auto":
        return variant
    return variant.model_copy(update={"scale": lender.scale})


def check_lender(name: str, variant: Variant, variants: dict[str, Variant]) -> None:
    """Raises ValueError unless the variant that lends its scale has one of its own that fits."""
    lender = variants.get(variant.scale)
    if lender is None:
        raise ValueError(
            f"variants.{name}.scale is {variant.scale}; give a number, auto or one of"
            f" {', '.join(variants)}"
        )
    if (lender.source, lender.guidance) != (variant.source, variant.guidance):
        raise ValueError(
            f"variants.{name} takes the scale of {variant.scale}, whose source or guidance differs;"
            " give it a scale of its own"
        )
    if isinstance(lender.scale, str) and lender.scale != "auto":
        raise ValueError(
            f"variants.{name} takes the scale of {variant.scale}, which takes that of"
            f" {lender.scale}; name {lender.scale} instead"
        )
