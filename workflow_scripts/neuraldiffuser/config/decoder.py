"""Settings of the decoders: networks, losses, training, prediction."""

from typing import Any, Literal

from pydantic import Field, PositiveFloat, SerializerFunctionWrapHandler, model_serializer

from neuraldiffuser.config.base import Section, narrow

# What only one of the two pipelines reads of a recipe.
LOW_LEVEL_SETTINGS = {"low_level"}
HIGH_LEVEL_SETTINGS = {"backbone", "mixco_permutation", "target_scaling", "prior", "objective"}


class Network(Section):
    """Sizes of the voxel encoder and of the backbone."""

    hidden_size: int = Field(
        4096, ge=1, description="Width d of the space shared by all subjects (paper: 4096)."
    )
    blocks: int = Field(4, ge=1, description="Blocks of the backbone (paper: 4).")
    dropout: float = Field(
        0.15, ge=0, lt=1, description="Dropout inside a block of the backbone (released: 0.15)."
    )
    input_dropout: float = Field(
        0.5,
        ge=0,
        lt=1,
        description="Dropout before the blocks of residual_mlp (MindEye: 0.5); "
        "released_mixer has none.",
    )


class Prior(Section):
    """The diffusion prior: a small transformer that denoises the target's tokens."""

    depth: int = Field(6, ge=1, description="Transformer layers (released: 6).")
    head_size: int = Field(
        52,
        ge=2,
        description="Width of an attention head; there are token width // head_size of them "
        "(released: 52).",
    )
    rotary_size: int = Field(
        32,
        ge=2,
        multiple_of=2,
        description="Dimensions of a head that rotate with position, at most head_size "
        "(DALLE2-pytorch: 32).",
    )
    feedforward_factor: float = Field(
        4, gt=0, description="Inner width of a feed-forward layer over token width (released: 4)."
    )
    prediction: Literal["target", "residual"] = Field(
        "target",
        description="What the network's output is: the target (released), or its difference from "
        "the backbone's tokens (ours), which trains in hundreds of steps instead of tens of "
        "thousands because nothing has to be copied through attention first.",
    )
    timesteps: int = Field(
        100, ge=2, description="Noise levels of the cosine schedule (paper: 100)."
    )
    condition_dropout: float = Field(
        0.2,
        ge=0,
        lt=1,
        description="Probability of hiding the brain tokens, and independently the noised target, "
        "of a sample in training (released: 0.2).",
    )


class LowLevel(Section):
    """The low-level pipeline, from voxels to the autoencoder's latent."""

    encoder_dropout: float = Field(
        0.5, ge=0, lt=1, description="Dropout after the voxel encoder (released: 0.5)."
    )
    dropout: float = Field(
        0.25, ge=0, lt=1, description="Dropout inside a residual block (released: 0.25)."
    )
    maps_channels: int = Field(
        64, ge=1, description="Channels of the maps that the upsampler starts from (paper: 64)."
    )
    upsampler_channels: tuple[int, ...] = Field(
        (64, 128, 256),
        min_length=1,
        description="Widths of the convolutional upsampler, finest first; each level but one "
        "doubles the resolution (released: 64, 128, 256).",
    )
    upsampler_groups: int = Field(
        32, ge=1, description="Groups of the upsampler's group normalisations (diffusers: 32)."
    )
    projector_width: int = Field(
        512,
        ge=1,
        description="Width of the maps projector, that of the teacher's maps (released: 512; the "
        "encoder of Stable Diffusion has as many channels).",
    )
    l1_divisor: float = Field(
        0.18215,
        gt=0,
        description="The L1 loss is divided by this (released: Stable Diffusion's scaling factor).",
    )
    teacher: Literal["autoencoder", "convnext", "none"] = Field(
        "convnext",
        description="Whose features of clean and augmented images the maps imitate: those of "
        "VICRegL's ConvNeXt-XL (convnext, released; models.low_level_teacher, not for commercial "
        "use), of the autoencoder's own encoder, or nobody's.",
    )
    teacher_weight: float = Field(
        0.1, ge=0, description="Weight of the soft contrastive loss against L1 (released: 0.1)."
    )
    teacher_temperature: float = Field(
        0.075, gt=0, description="Temperature of the soft contrastive loss (released: 0.075)."
    )


class Objective(Section):
    """Weights, temperatures and phases of the high-level losses."""

    prior_weight: float = Field(
        30, ge=0, description="Weight alpha of the prior's loss in Equation 3 (released: 30)."
    )
    contrastive_weight: float = Field(
        1, ge=0, description="Weight of the contrastive loss (released: 1)."
    )
    mixco_fraction: float = Field(
        0.33,
        ge=0,
        le=1,
        description="Part of the epochs with MixCo, rounded down; soft CLIP follows "
        "(paper: a third; released: 0.33).",
    )
    mixco_beta: float = Field(
        0.15, gt=0, description="Both parameters of the Beta distribution of MixCo's weights."
    )
    mixco_probability: float = Field(
        0.5, ge=0, le=1, description="Probability that MixCo mixes a sample (released: 0.5)."
    )
    mixco_temperature: float = Field(
        0.006, gt=0, description="Temperature of the MixCo loss (released: 0.006)."
    )
    soft_temperatures: tuple[float, float] = Field(
        (0.004, 0.0075),
        description="First and last temperature of the soft CLIP loss, joined by half a cosine "
        "over its epochs (released: 0.004 to 0.0075).",
    )


class Optimiser(Section):
    """AdamW with a one-cycle learning rate."""

    learning_rate: float = Field(3e-4, gt=0, description="Largest learning rate (released: 3e-4).")
    weight_decay: float = Field(0.01, ge=0, description="Decoupled weight decay (released: 0.01).")
    voxel_weight_decay: float = Field(
        0.01,
        ge=0,
        description="The same for the voxel encoders, where it stands for ridge regression "
        "(released: 0.01).",
    )
    decay_groups: Literal["released", "matrices"] = Field(
        "released",
        description="What decays: released exempts only what is called bias outside the voxel "
        "encoder (norm gains decay, as its names never match); matrices decays matrices and "
        "kernels only.",
    )
    warmup_fraction: float = Field(
        2 / 150,
        gt=0,
        lt=1,
        description="Part of the steps in which the rate rises (released: 2 of 150 epochs).",
    )
    final_division: float = Field(
        1000,
        ge=1,
        description="The last rate is the first one over this (released: 1000); "
        "the first is a 25th of the largest.",
    )
    precision: Literal["bf16", "fp16", "fp32"] = Field(
        "bf16",
        description="Arithmetic of forward and backward passes; weights stay fp32. fp16 scales its "
        "losses (released; known to overflow here).",
    )


class Budget(Section):
    """How long a training lasts: a fixed number of steps."""

    epochs: int = Field(150, ge=1, description="Epochs (released: 150).")
    samples_per_epoch: int = Field(
        30000, ge=1, description="Trials that count as one epoch (released: 30000 always)."
    )
    batch_size: int = Field(
        42, ge=2, description="Trials per step, shared equally by subjects (paper 21, released 42)."
    )


class PriorSampling(Section):
    """How a trained prior is sampled."""

    prior_samples: int = Field(
        1,
        ge=1,
        description="Draws of the prior that are averaged (released: 1; the mean of several "
        "approaches the posterior mean).",
    )
    prior_steps: int = Field(
        20, ge=1, description="Sampling steps asked of the prior (released: 20)."
    )
    prior_sampling: Literal["released", "exact"] = Field(
        "released",
        description="Noise levels of a sampling step: released takes them from two neighbouring "
        "timesteps and runs one step less, as DALLE2-pytorch does; exact takes them from one.",
    )


class Prediction(PriorSampling):
    """From a trained decoder to embeddings."""

    alignment: Literal["test_predictions", "validation_predictions", "none"] = Field(
        "test_predictions",
        description="Whose statistics Equation 6 removes before Equation 7 applies those of the "
        "training targets: of the test predictions (released, looks at the whole test set), of "
        "held-out training predictions (corrected), or no alignment.",
    )
    aligned_targets: tuple[str, ...] = Field(
        ("vae_latent",), description="Targets that are aligned (released: vae_latent only)."
    )

    def alignment_of(self, target: str) -> str:
        """How the decoded embeddings of ``target`` are aligned."""
        return self.alignment if target in self.aligned_targets else "none"


class RidgeSettings(Section):
    """Ridge regression from voxels to a target, the linear baseline."""

    penalties: tuple[PositiveFloat, ...] = Field(
        (1e1, 3e1, 1e2, 3e2, 1e3, 3e3, 1e4, 3e4, 1e5, 3e5, 1e6, 3e6, 1e7),
        min_length=1,
        description="Weights of the squared coefficients to choose from, one for all outputs of a "
        "target, by leaving out each training image once; voxels have variance 1, and squared "
        "errors are summed over images.",
    )


class Recipe(Section):
    """Everything that a training of a decoder reads: derived from the other keys, no key itself.

    What is not given stands at its default and is left out where the recipe is written: a target's
    recipe holds nothing of the other pipeline's.
    """

    backbone: str = "released_mixer"
    mixco_permutation: str = "per_subject_unoffset"
    target_scaling: str = "none"
    network: Network = Network()
    prior: Prior = Prior()
    low_level: LowLevel = LowLevel()
    objective: Objective = Objective()
    optimiser: Optimiser = Optimiser()
    budget: Budget = Budget()
    seed: int = 42

    @model_serializer(mode="wrap")
    def _write_what_is_given(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in write(self).items() if name in self.model_fields_set}


class DecoderSettings(Section):
    """Networks that decode every target embedding from voxels."""

    backbone: Literal["released_mixer", "residual_mlp"] = Field(
        "released_mixer",
        description="Backbone: released_mixer, whose mixing blocks have no effect on a single "
        "token so that it is affine in the voxels, or residual_mlp (corrected).",
    )
    mixco_permutation: Literal["global", "per_subject_unoffset"] = Field(
        "per_subject_unoffset",
        description="Columns of MixCo's mixed targets: per_subject_unoffset forgets that subjects "
        "are concatenated (released), global does not (corrected).",
    )
    target_scaling: Literal["none", "per_dimension"] = Field(
        "none",
        description="Whether high-level targets are standardised for training and predictions "
        "scaled back: none (released), per_dimension (the first version of the released code).",
    )
    validation_images: int = Field(
        100,
        ge=2,
        description="Training images of each subject held out from its finetuning and from its "
        "encoder's training, for alignment, for choosing guidance scales and as a second set to "
        "decode; deviations need two.",
    )
    network: Network = Field(default_factory=Network, description=Network.__doc__)
    prior: Prior = Field(default_factory=Prior, description=Prior.__doc__)
    low_level: LowLevel = Field(default_factory=LowLevel, description=LowLevel.__doc__)
    objective: Objective = Field(default_factory=Objective, description=Objective.__doc__)
    optimiser: Optimiser = Field(default_factory=Optimiser, description=Optimiser.__doc__)
    pretraining: Budget = Field(
        default_factory=Budget, description="Training on all the other subjects."
    )
    finetuning: Budget = Field(
        default_factory=Budget, description="Training on the subject itself, from the former."
    )
    prediction: Prediction = Field(default_factory=Prediction, description=Prediction.__doc__)
    controls: tuple[Literal["ridge", "scratch"], ...] = Field(
        ("ridge",),
        description="What else decodes the same images, for comparison with the decoder: ridge "
        "regression; scratch, a network trained like the finetuned one, for as many steps, but "
        "from random weights.",
    )
    ridge: RidgeSettings = Field(default_factory=RidgeSettings, description=RidgeSettings.__doc__)

    @property
    def prior_sampling(self) -> PriorSampling:
        """What decoding depends on beside the decoder."""
        return narrow(self.prediction, PriorSampling)

    def recipe(self, target: str, budget: Budget, seed: int) -> Recipe:
        """What a training for ``target`` with ``budget`` reads."""
        unread = HIGH_LEVEL_SETTINGS if target == "vae_latent" else LOW_LEVEL_SETTINGS
        read = {name for name in Recipe.model_fields if hasattr(self, name)} - unread
        return Recipe(**{name: getattr(self, name) for name in read}, budget=budget, seed=seed)
