"""Reads CLIP image layers: stimuli and a tower enter, targets/clip_image_NN.h5 leave."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from neuraldiffuser import runtime
from neuraldiffuser.config.targets import ClipImageSettings
from neuraldiffuser.features import targets
from neuraldiffuser.features.clip_image import load_clip_image
from neuraldiffuser.features.store import Target, write_resumably


def extract_clip_image(
    *,
    path_to_stimuli: Path | str,
    paths_to_responses: Sequence[Path | str],
    path_to_weights: Path | str,
    paths_to_receipts: Sequence[Path | str],
    paths_to_targets: Sequence[Path | str],
    settings: ClipImageSettings,
    precision: str,
    dtype: str,
    sessions: Mapping[str, int],
) -> None:
    """Writes the activations of all layers, in the order of ``settings.layers``, in one pass."""
    clip = load_clip_image(
        Path(path_to_weights).parent,
        node=settings.node,
        normalisation=settings.normalisation,
        antialias=settings.antialias,
        layers=settings.layers,
        device=runtime.execution().device,
        dtype=targets.dtype_of(precision),
    )
    names = [targets.clip_image_target(layer) for layer in settings.layers]
    files = {
        name: Target(
            path=Path(path),
            shape=clip.shape,
            attributes=targets.describe_target(
                name, settings, precision=precision, paths_to_receipts=paths_to_receipts
            ),
        )
        for name, path in zip(names, paths_to_targets, strict=True)
    }
    extraction = targets.extract_clip_images(clip, path_to_stimuli, dtype=dtype)
    write_resumably(
        files,
        targets.find_ids_in_use(paths_to_responses, sessions=sessions),
        extraction,
        dtype=dtype,
        batch_size=extraction.batch_size,
        origin=targets.describe_origin("extract_clip_image", [path_to_stimuli]),
    )


if __name__ == "__main__":
    with runtime.job(snakemake) as settings:  # noqa: F821
        extract_clip_image(
            path_to_stimuli=snakemake.input.stimuli,  # noqa: F821
            paths_to_responses=snakemake.input.responses,  # noqa: F821
            path_to_weights=snakemake.params.weights,  # noqa: F821
            paths_to_receipts=snakemake.input.models,  # noqa: F821
            paths_to_targets=snakemake.output.targets,  # noqa: F821
            **settings,
        )
