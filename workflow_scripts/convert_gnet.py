"""Converts the released multi-subject GNet from its checkpoint to safetensors.

The checkpoint of torch.save enters; encoders/released_gnet.safetensors leaves: what all subjects
share once, and per subject the readout, the voxels it is of and its published accuracy.
"""

from pathlib import Path

from neuraldiffuser import contents, runtime, storage
from neuraldiffuser.encoding import released_gnet


def convert_gnet(*, path_to_checkpoint: Path | str, path_to_encoder: Path | str) -> None:
    """Reads the checkpoint without executing anything in it, inspects it and renames its tensors.

    Raises:
        DataError: it is missing, truncated, asks for anything but tensors and arrays, or differs
            from the public description of the released GNet.
    """
    checkpoint = released_gnet.read_checkpoint(path_to_checkpoint)
    released = released_gnet.convert(checkpoint, source=path_to_checkpoint)
    subjects = {}
    for subject, voxels in released.voxels.items():
        volume_shape = released.volume_shapes[subject]
        verdict = released_gnet.compare_voxels(subject, voxels=voxels, volume_shape=volume_shape)
        accuracy = released.tensors[f"{subject}.val_cc"].median().item()
        runtime.logger.info("%s: %d voxels (%s), median r %.2f", subject, voxels, verdict, accuracy)
        subjects[subject] = {"voxels": voxels, "volume_shape": volume_shape}
    storage.write_tensors(
        path_to_encoder,
        released.tensors,
        {
            "source_sha256": contents.digest(Path(path_to_checkpoint)),
            "network": released_gnet.NETWORK.model_dump(mode="json"),
            "subjects": subjects,
        },
    )


if __name__ == "__main__":
    with runtime.job(snakemake):  # noqa: F821
        convert_gnet(
            path_to_checkpoint=snakemake.params.checkpoint,  # noqa: F821
            path_to_encoder=snakemake.output.encoder,  # noqa: F821
        )
