"""Embeds every caption in use: captions and a text encoder enter, targets/clip_text.h5 leaves."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from neuraldiffuser import runtime
from neuraldiffuser.config.targets import ClipTextSettings
from neuraldiffuser.features import targets
from neuraldiffuser.features.clip_text import load_clip_text
from neuraldiffuser.features.store import Target, write_resumably
from neuraldiffuser.nsd.captions import read_captions


def extract_clip_text(
    *,
    path_to_information: Path | str,
    paths_to_annotations: Sequence[Path | str],
    paths_to_responses: Sequence[Path | str],
    path_to_weights: Path | str,
    paths_to_receipts: Sequence[Path | str],
    path_to_target: Path | str,
    settings: ClipTextSettings,
    precision: str,
    dtype: str,
    sessions: Mapping[str, int],
) -> None:
    """Writes the embedding of each stimulus's captions."""
    path_to_weights = Path(path_to_weights)
    text = load_clip_text(
        path_to_weights.parents[1],
        device=runtime.execution().device,
        dtype=targets.dtype_of(precision),
    )
    ids = targets.find_ids_in_use(paths_to_responses, sessions=sessions)
    captions = read_captions(
        path_to_information=path_to_information,
        paths_to_annotations=paths_to_annotations,
        ids=ids,
    )
    target = Target(
        path=Path(path_to_target),
        shape=text.shape,
        attributes=targets.describe_target(
            targets.CLIP_TEXT, settings, precision=precision, paths_to_receipts=paths_to_receipts
        ),
    )
    sources = [path_to_information, *paths_to_annotations]
    extraction = targets.extract_clip_texts(text, captions, settings=settings, dtype=dtype)
    write_resumably(
        {targets.CLIP_TEXT: target},
        ids,
        extraction,
        dtype=dtype,
        batch_size=extraction.batch_size,
        origin=targets.describe_origin("extract_clip_text", sources),
    )


if __name__ == "__main__":
    with runtime.job(snakemake) as settings:  # noqa: F821
        extract_clip_text(
            path_to_information=snakemake.input.information,  # noqa: F821
            paths_to_annotations=snakemake.input.annotations,  # noqa: F821
            paths_to_responses=snakemake.input.responses,  # noqa: F821
            path_to_weights=snakemake.params.weights,  # noqa: F821
            paths_to_receipts=snakemake.input.models,  # noqa: F821
            path_to_target=snakemake.output.target,  # noqa: F821
            **settings,
        )
