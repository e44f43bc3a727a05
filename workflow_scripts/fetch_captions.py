"""From COCO's address to a local copy of its archive of annotations."""

from pathlib import Path

from neuraldiffuser import runtime
from neuraldiffuser.transfer import whole


def fetch_captions(*, path_to_archive: Path | str, url: str, sha256: str | None) -> None:
    """Fetches the archive.

    Args:
        path_to_archive: where it goes.
        url: where it lies.
        sha256: of the archive, where it is known.

    Raises:
        AlteredObjectError: what arrives has another digest.
        FetchError: it does not exist, or did not arrive whole.
    """
    whole.fetch(url, path_to_archive, sha256=sha256)


if __name__ == "__main__":
    with runtime.job(snakemake) as settings:  # noqa: F821
        fetch_captions(path_to_archive=snakemake.output.archive, **settings)  # noqa: F821
