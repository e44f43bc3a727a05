"""From a model's source to a verified local copy of one of its files."""

from pathlib import Path

from neuraldiffuser import contents, runtime
from neuraldiffuser.config.models import PinnedFile
from neuraldiffuser.transfer import whole


def fetch_model(*, path_to_copy: Path | str, file: str, pin: PinnedFile, source: str) -> None:
    """Fetches one file of a model.

    Args:
        path_to_copy: where it goes.
        file: its path inside the source.
        pin: its size and digest, as far as they are known.
        source: the address of the folder or repository that holds it.

    Raises:
        AlteredObjectError: what arrives is not the pinned file, or not what its server states.
        FetchError: it does not exist, or did not arrive whole.
    """
    whole.fetch(f"{source}/{file}", path_to_copy, size=pin.size, sha256=pin.sha256)
    if pin.sha256 is None:
        runtime.logger.info(
            "%s is not pinned: to accept no other file, pin {size: %d, sha256: %s}.",
            file,
            Path(path_to_copy).stat().st_size,
            contents.digest(Path(path_to_copy)),
        )


if __name__ == "__main__":
    with runtime.job(snakemake) as settings:  # noqa: F821
        fetch_model(
            path_to_copy=snakemake.output.file,  # noqa: F821
            file=snakemake.wildcards.file,  # noqa: F821
            pin=PinnedFile(**snakemake.params.pin),  # noqa: F821
            **settings,
        )
