"""The brain-encoding model that evaluates reconstructions, and can guide them."""

from typing import Literal

from pydantic import Field

from neuraldiffuser.config.base import Section


class GnetSettings(Section):
    """Sizes of the network; the defaults are those of the released multi-subject GNet."""

    image_size: int = Field(227, ge=32, description="Pixels a side at which images are seen.")
    prefilter_channels: tuple[int, int] = Field(
        (64, 192), description="Channels of the two convolutions before the trunk (AlexNet's)."
    )
    first_kernel: int = Field(11, ge=3, description="Width of the first filters, in pixels.")
    first_stride: int = Field(4, ge=1, description="Step of the first filters, in pixels.")
    pass_width: int = Field(
        128, ge=1, description="Channels of the trunk's first convolution, also read by voxels."
    )
    trunk_width: int = Field(
        64, ge=1, description="Channels of each of the trunk's six blocks that voxels read."
    )
    unread_width: int = Field(
        192,
        ge=0,
        description="Further channels of each block but the last, which only the next block reads "
        "(pass_through in the public readers of the released file).",
    )
    dropout: float = Field(
        0.5, ge=0, lt=1, description="Share of the trunk's channels left out in a training step."
    )


class EncoderTrainingSettings(Section):
    """How the encoding model is fitted to a subject's training trials."""

    epochs: int = Field(
        50, ge=1, description="Passes over the training images at most (GNet's notebook: 50)."
    )
    patience: int = Field(
        10, ge=1, description="Stop after so many epochs without a better held-out accuracy."
    )
    batch_size: int = Field(100, ge=2, description="Images per step (GNet's notebook: 100).")
    learning_rate: float = Field(
        1e-3, gt=0, description="Adam's step for the network (GNet's notebook: 0.001)."
    )
    readout_learning_rate: float = Field(
        1e-3, gt=0, description="Adam's step for the voxels' receptive fields and weights."
    )
    weight_penalty: float = Field(
        0.1,
        ge=0,
        description="Factor of the absolute readout weights, added to the summed squared errors "
        "(GNet's notebook: 0.1).",
    )
    held_out_images: int = Field(
        1000,
        ge=3,
        description="Training images on which training is stopped and each voxel's accuracy is "
        "measured; neither test images nor decoder.validation_images, on which guidance scales are "
        "chosen. GNet's notebook holds out 3000 trials.",
    )


class EncodingSettings(Section):
    """A GNet-style encoding model per subject (St-Yves et al.)."""

    source: Literal["train", "released"] = Field(
        "train",
        description="Fit the model to the subject's own training trials (train), or take the "
        "released multi-subject weights for the subject's voxels (released; NSD's subjects and "
        "this network's default sizes only).",
    )
    network: GnetSettings = Field(GnetSettings(), description="Sizes of the network.")
    training: EncoderTrainingSettings = Field(
        EncoderTrainingSettings(), description="How it is fitted."
    )
