"""From COCO's archive of annotations to its two caption files."""

from collections.abc import Sequence
from pathlib import Path

from neuraldiffuser import runtime
from neuraldiffuser.nsd import captions


def unpack_captions(
    *, path_to_archive: Path | str, paths_to_annotations: Sequence[Path | str]
) -> None:
    """Unpacks the caption files.

    Args:
        path_to_archive: annotations_trainval2017.zip.
        paths_to_annotations: captions_train2017.json and captions_val2017.json.

    Raises:
        DataError: the archive is truncated or lacks one of them.
    """
    captions.unpack(path_to_archive, paths_to_annotations)


if __name__ == "__main__":
    with runtime.job(snakemake) as settings:  # noqa: F821
        unpack_captions(
            path_to_archive=snakemake.input.archive,  # noqa: F821
            paths_to_annotations=snakemake.output.annotations,  # noqa: F821
            **settings,
        )
