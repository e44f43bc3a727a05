"""From a session of the NSD bucket to a verified local copy."""

from pathlib import Path

from neuraldiffuser import runtime
from neuraldiffuser.nsd.sessions import explain_absence
from neuraldiffuser.transfer import whole


def fetch_session(*, path_to_copy: Path, name: str, bucket: str, region: str) -> None:
    """Fetches the betas of one session.

    Args:
        path_to_copy: where they go.
        name: their path inside the bucket.
        bucket: the bucket's address or folder.
        region: of an s3:// bucket.

    Raises:
        FetchError: the session does not exist, or did not arrive whole.
    """
    address = f"{bucket}/{name}"
    with explain_absence(address):
        whole.fetch(address, path_to_copy, region=region)


if __name__ == "__main__":
    with runtime.job(snakemake) as settings:  # noqa: F821
        fetch_session(
            path_to_copy=Path(snakemake.output.betas),  # noqa: F821
            name=snakemake.params.name,  # noqa: F821
            **settings,
        )
