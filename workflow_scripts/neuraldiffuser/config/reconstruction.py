"""Settings of the guided reconstruction: sampler, guidance, and the named variants to run."""

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Literal

from pydantic import Field, model_validator

from neuraldiffuser.config.base import Section, narrow
from neuraldiffuser.config.guidance import FunctionName, GuidanceSettings, UsedGuidance

STIMULUS = "stimulus"  # what the stimuli themselves are called beside variants
VariantName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
Scale = Annotated[float, Field(ge=0)]


class Term(Section):
    """How strongly one guidance function guides."""

    scale: Scale | Literal["auto"] | VariantName = Field(
        "auto",
        description="Guidance scale kappa (paper: 300000): a number; auto, calibrated on held-out"
        " training images; or the name of another variant, whose scale of the same function is"
        " used, without its scale_factor.",
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


Terms = Annotated[dict[FunctionName, Term], Field(min_length=1)]


class Variant(Term):
    """One way to reconstruct every test image; a column of Table 2, a control, an upper bound."""

    source: Literal["brain", "stimulus"] = Field(
        "brain",
        description="Where the embeddings come from: decoded from each subject's brain, or from the"
        " stimuli themselves (Fig. 9, once for all subjects).",
    )
    guidance: Literal["none"] | FunctionName | Terms = Field(
        "clip_layers",
        description="none; a guidance function, with the scale, scale_factor and ratio beside it;"
        " or several that are summed, each with its own: {color: {}, edges: {ratio: 0.2}}.",
    )
    strength: float = Field(
        0.2, ge=0, le=1, description="Guidance strength eta: the share of steps that are guided."
    )
    features: Literal["own", "another_image", "mean"] = Field(
        "own",
        description="What guides an image: its own features; as controls, another test image's, or"
        " the mean over held-out training images.",
    )

    @property
    def terms(self) -> dict[str, Term]:
        """The guidance functions by name, each with its scale; empty where nothing guides."""
        if isinstance(self.guidance, dict):
            return dict(sorted(self.guidance.items()))
        return {} if self.guidance == "none" else {self.guidance: narrow(self, Term)}

    @model_validator(mode="after")
    def scale_each_function_of_a_sum(self) -> "Variant":
        """A scale beside a sum would be read by nobody."""
        beside = sorted(self.model_dump(include=set(Term.model_fields), exclude_defaults=True))
        if isinstance(self.guidance, dict) and beside:
            raise ValueError(
                f"{beside[0]} stands beside a sum of guidance functions, each of which has its own;"
                f" move it: {{guidance: {{{next(iter(self.guidance))}: {{{beside[0]}: ...}}}}}}"
            )
        return self

    @model_validator(mode="after")
    def guide_stimuli_by_embeddings(self) -> "Variant":
        """The stimuli's own embeddings belong to no brain whose voxels could guide."""
        if self.source == "stimulus" and "encoder" in self.terms:
            raise ValueError(
                "guidance encoder follows a subject's voxels, but source stimulus has no subject;"
                " set source to brain"
            )
        return self


class Selection(Section):
    """One of the repeats of every image, chosen without looking at the stimulus."""

    of: VariantName = Field(description="The variant whose images are chosen from.")
    by: Literal["decoded_features"] = Field(
        "decoded_features",
        description="decoded_features: the repeat whose CLIP layers are most like the decoded ones"
        " (second-order selection).",
    )


def name_maker(name: str, selections: Mapping[str, Selection]) -> str:
    """Name of the variant that made the images of a variant or selection."""
    return selections[name].of if name in selections else name


class UnguidedSampling(Section):
    """The sampler (Section 4.3, Algorithm 1) without its guidance."""

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
    noise_timestep: Literal["aligned", "released"] = Field(
        "released",
        description="Noise level of the initial latent: aligned with the first step that is run"
        " (721 of 1000); released: int(37/50 of 1000) = 740, as the authors' code has it.",
    )
    precision: Literal["float32", "bfloat16", "float16"] = Field(
        "float16",
        description="Number format of the diffusion model's weights and passes; the guidance"
        " function itself and the sampler's own arithmetic are float32. A CPU is fastest in"
        " float32.",
    )
    batch_size: int = Field(
        8,
        ge=1,
        description="Samples (image x repeat) reconstructed together on a CPU, where another size"
        " changes the last bits; a GPU takes as many as fit into its memory.",
    )


class Sampling(UnguidedSampling):
    """The guided sampler: everything that one image depends on."""

    tweedie: Literal["exact", "released"] = Field(
        "released",
        description="Estimate of the clean latent behind the guidance (Eq. 11): exact subtracts"
        " sqrt(1 - abar) eps; released subtracts (1 - abar) eps, as the authors' code does.",
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
    guided_steps: Literal["first", "last"] = Field(
        "first",
        description="Which eta of the steps are guided: first (the text and the authors' code), or"
        " last (Algorithm 1 as printed).",
    )
    non_finite_gradients: Literal["stop", "clip"] = Field(
        "stop",
        description="What becomes of a guidance gradient that is not finite: stop with an error, or"
        " clip: infinities to the sample's largest finite value, what is no number to zero.",
    )
    guidance: UsedGuidance = Field(UsedGuidance(), description=UsedGuidance.__doc__)


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

PAPER = {
    "guided": Variant(scale=300_000.0),
    "unguided": Variant(guidance="none"),
    "wrong_image": Variant(scale="guided", features="another_image"),
    "mean_feature": Variant(scale="guided", features="mean"),
    "ground_truth_guided": Variant(source="stimulus", scale=300_000.0, ratio=2.0),
    "ground_truth_unguided": Variant(source="stimulus", guidance="none"),
    "brain_encoding": Variant(guidance="encoder", scale=800.0, strength=1.0),  # Table 4
} | TABLE_2

# Further functions, by themselves and beside the paper's; none runs unless asked for.
FURTHER = {
    "color": Variant(guidance="color"),
    "edges": Variant(guidance="edges"),
    "clip_and_color": Variant(
        guidance={"clip_layers": Term(scale="guided"), "color": Term(ratio=0.2)}
    ),
}

SELECTIONS = {"guided_best": Selection(of="guided")}


class Reconstruction(ImageSettings, CalibrationSettings):
    """Guided reconstruction with the decoded embeddings."""

    guidance: GuidanceSettings = Field(GuidanceSettings(), description=GuidanceSettings.__doc__)
    variants: dict[VariantName, Variant] = Field(
        default_factory=lambda: PAPER | FURTHER,
        description="Named variants; a name becomes a folder of results.",
    )
    selections: dict[VariantName, Selection] = Field(
        default_factory=lambda: dict(SELECTIONS),
        description="Named selections: one repeat of every image of a variant. Without one, every"
        " measure is the mean over repeats.",
    )
    run: tuple[VariantName, ...] = Field(
        (*PAPER, *SELECTIONS),
        min_length=1,
        description="Variants and selections that are run and evaluated.",
    )

    @cached_property
    def image_settings(self) -> dict[str, ImageSettings]:
        """What the images of each variant depend on."""
        variants = self.resolved_variants.items()
        return {name: self._used_by(one, ImageSettings) for name, one in variants}

    @cached_property
    def calibration_settings(self) -> dict[str, CalibrationSettings]:
        """What calibrating the guidance scales of each variant depends on."""
        variants = self.calibrated_variants.items()
        return {name: self._used_by(one, CalibrationSettings) for name, one in variants}

    def _used_by(self, variant: Variant, kind: type[Sampling]) -> Sampling:
        """What a variant never reads stays at its default: changing it makes no image anew."""
        read = kind.model_fields.keys() - (set() if variant.terms else GUIDED_KEYS) - {"guidance"}
        used = {name: getattr(self.guidance, name).used for name in variant.terms}
        return kind(**{name: getattr(self, name) for name in read}, guidance=UsedGuidance(**used))

    @cached_property
    def resolved_variants(self) -> dict[str, Variant]:
        """The variants as their images depend on them: numbers are worked out where there are any.

        Functions are spelt out as sums, and what is not read has its default.
        """
        return {name: resolve(variant, self.variants) for name, variant in self.variants.items()}

    @cached_property
    def calibrated_variants(self) -> dict[str, Variant]:
        """The variants as their calibrations depend on them: functions with scales of their own."""
        return {name: calibrated_part(variant) for name, variant in self.variants.items()}

    def variant_of(self, name: str) -> Variant:
        """The variant that made the images of a variant or selection."""
        return self.variants[name_maker(name, self.selections)]

    @model_validator(mode="after")
    def refer_to_known_variants(self) -> "Reconstruction":
        """Every variant that is run, is chosen from, or lends its scale, exists and fits."""
        if STIMULUS in {*self.variants, *self.selections}:
            raise ValueError(f"{STIMULUS} means the stimuli themselves; give variants other names")
        for name in self.run:
            if name in self.selections:
                check_selection(name, self.selections[name], self.variants)
            elif name not in self.variants:
                raise ValueError(f"run names {name}; known variants are {', '.join(self.variants)}")
        for name, variant in self.variants.items():
            for function, term in variant.terms.items():
                if isinstance(term.scale, str) and term.scale != "auto":
                    check_lender(name, function, self.variants)
        return self


GUIDED_KEYS = Sampling.model_fields.keys() - UnguidedSampling.model_fields.keys()


def resolve(variant: Variant, variants: dict[str, Variant]) -> Variant:
    """What the images of a variant depend on; a ratio shows in the calibration alone."""
    terms = {name: resolve_term(name, term, variants) for name, term in variant.terms.items()}
    if not terms:
        return Variant(source=variant.source, guidance="none")
    return Variant(
        source=variant.source,
        guidance=terms,
        strength=variant.strength,
        features=variant.features,
    )


def resolve_term(function: str, term: Term, variants: dict[str, Variant]) -> Term:
    """A term's own number or a lender's, multiplied; a calibration stays a name and a factor."""
    scale = find_scale(function, term, variants)
    if isinstance(scale, str):
        return Term(scale=scale, scale_factor=term.scale_factor)
    return Term(scale=term.scale_factor * scale)


def calibrated_part(variant: Variant) -> Variant:
    """What the calibration of a variant depends on: its functions with scale auto, their ratios."""
    automatic = {name: term for name, term in variant.terms.items() if term.scale == "auto"}
    if not automatic:
        return Variant(guidance="none")
    ratios = {name: Term(ratio=term.ratio) for name, term in automatic.items()}
    return Variant(guidance=ratios, strength=variant.strength)


def find_scale(function: str, term: Term, variants: dict[str, Variant]) -> float | str:
    """A term's number, auto, or the name of the variant whose calibration it takes."""
    lender = variants.get(term.scale)
    if lender is None or lender.terms[function].scale == "auto":
        return term.scale
    return lender.terms[function].scale


def check_selection(name: str, selection: Selection, variants: dict[str, Variant]) -> None:
    """Raises ValueError unless it chooses from a variant and has a name of its own."""
    if name in variants:
        raise ValueError(f"selections.{name} has the name of a variant; choose another")
    if selection.of not in variants:
        raise ValueError(
            f"selections.{name} chooses from {selection.of}; known variants are"
            f" {', '.join(variants)}"
        )


def check_lender(name: str, function: str, variants: dict[str, Variant]) -> None:
    """Raises ValueError unless the variant that lends its scale has one of its own that fits."""
    variant = variants[name]
    lent = variant.terms[function].scale
    lender = variants.get(lent)
    if lender is None:
        raise ValueError(
            f"variants.{name}.scale is {lent}; give a number, auto or one of {', '.join(variants)}"
        )
    if lender.source != variant.source or function not in lender.terms:
        raise ValueError(
            f"variants.{name} takes the scale of {lent}, whose source or guidance differs;"
            " give it a scale of its own"
        )
    scale = lender.terms[function].scale
    if isinstance(scale, str) and scale != "auto":
        raise ValueError(
            f"variants.{name} takes the scale of {lent}, which takes that of {scale}; name {scale}"
            " instead"
        )
