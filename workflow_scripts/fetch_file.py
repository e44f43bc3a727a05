"""From an object of the NSD bucket to a verified local copy at the same path."""

from pathlib import Path

from neuraldiffuser import runtime
from neuraldiffuser.transfer import whole


def fetch_file(*, path_to_copy: Path | str, name: str, bucket: str, region: str) -> None:
    """Fetches one object.

    Args:
        path_to_copy: where it goes.
        name: its path inside the bucket.
        bucket: the bucket's address or folder.
        region: of an s3:// bucket.

    Raises:
        FetchError: it does not exist, or did not arrive whole.
    """
    whole.fetch(f"{bucket}/{name}", path_to_copy, region=region)


if __name__ == "__main__":
    with runtime.job(snakemake) as settings:  # noqa: F821
        fetch_file(
            path_to_copy=snakemake.output.mirrored,  # noqa: F821
            name=snakemake.wildcards.object,  # noqa: F821
            **settings,
        )
