"""Where a subject's encoding model comes from: its own trials, or the released weights."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from neuraldiffuser import storage
from neuraldiffuser.config.encoding import EncodingSettings
from neuraldiffuser.encoding import released_gnet
from neuraldiffuser.encoding.gnet import Gnet
from neuraldiffuser.encoding.training import Responses, train_gnet
from neuraldiffuser.errors import ConfigError
from neuraldiffuser.nsd.selection import Selection

CURVE = ("epoch", "loss", "held_out_correlation")


@dataclass(frozen=True)
class Material:
    """What a model can be made of.

    Attributes:
        subject: such as "subj01".
        selection: the voxels to answer for.
        read_training: reads the images to fit; a source that fits nothing does not call it.
        held_out: other training images, on which the best epoch is chosen.
        path_to_checkpoint: where a training that was killed goes on from.
        path_to_released: ``encoders/released_gnet.safetensors``, where the source reads it.
    """

    subject: str
    selection: Selection
    read_training: Callable[[], Responses]
    held_out: Responses
    path_to_checkpoint: Path
    path_to_released: Path | str | None = None


def train_on_own_trials(
    material: Material, *, settings: EncodingSettings, seed: int, device: str
) -> tuple[Gnet, pd.DataFrame]:
    """Fits a GNet to the subject's training trials; ``train_gnet`` says what is returned."""
    training = material.read_training()
    return train_gnet(
        training,
        material.held_out,
        settings=settings,
        seed=seed,
        device=device,
        path_to_checkpoint=material.path_to_checkpoint,
    )


def take_released(
    material: Material,
    *,
    settings: EncodingSettings,
    seed: int,  # noqa: ARG001  every source is called alike
    device: str,
) -> tuple[Gnet, pd.DataFrame]:
    """The released network, answering for the subject's voxels in their order; nothing is fitted.

    Returns:
        The encoder in evaluation mode, and an empty curve.

    Raises:
        ConfigError: ``encoding.network`` describes another network than the released one.
        DataError: the released network does not know the subject, its volume or one of the voxels.
    """
    if settings.network != released_gnet.NETWORK:
        raise ConfigError(
            "encoding.source is released, but encoding.network describes another network than the "
            "released GNet; leave encoding.network at its defaults."
        )
    tensors, metadata = storage.read_tensors(material.path_to_released)
    known = metadata["subjects"]
    state = released_gnet.state_of_voxels(
        tensors,
        material.subject,
        volume_shapes={subject: known[subject]["volume_shape"] for subject in known},
        selection=material.selection,
    )
    network = Gnet(settings.network, voxels=len(material.selection.index))
    network.load_state_dict(state)
    return network.to(device).eval(), pd.DataFrame(columns=CURVE, dtype=float)


SOURCES: dict[str, Callable[..., tuple[Gnet, pd.DataFrame]]] = {
    "train": train_on_own_trials,
    "released": take_released,
}
NOTES = {  # what to know of an accuracy, by source and split
    "train": {
        "test": "images that no part of the model saw",
        "held_out": "training images on which the best epoch was chosen",
    },
    "released": {
        "test": "the images shared by all subjects, on which its makers validated it; whether they "
        "chose its epoch is not documented",
        "held_out": "images that the released model saw in its training",
    },
}
