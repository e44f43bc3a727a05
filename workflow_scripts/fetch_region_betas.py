"""From a session of the NSD bucket to its nsdgeneral voxels alone, by ranged reads."""

from pathlib import Path

from neuraldiffuser import runtime
from neuraldiffuser.nsd import region_betas, rois
from neuraldiffuser.nsd.sessions import explain_absence


def fetch_region_betas(
    *,
    path_to_betas: Path,
    path_to_mask: Path,
    name: str,
    bucket: str,
    region: str,
) -> None:
    """Fetches the nsdgeneral voxels of one session.

    Args:
        path_to_betas: where they go.
        path_to_mask: the nsdgeneral volume.
        name: the session's path inside the bucket.
        bucket: the bucket's address or folder.
        region: of an s3:// bucket.

    Raises:
        FetchError: the session does not exist, or could not be read.
        DataError: the mask is damaged, or the session lies on another grid.
    """
    address = f"{bucket}/{name}"
    mask = rois.read_volume(path_to_mask)
    with explain_absence(address):
        region_betas.fetch_region(
            address,
            path_to_betas,
            index=rois.nsdgeneral_index(mask),
            volume_shape=mask.shape,
            region=region,
        )


if __name__ == "__main__":
    with runtime.job(snakemake) as settings:  # noqa: F821
        fetch_region_betas(
            path_to_betas=Path(snakemake.output.betas),  # noqa: F821
            path_to_mask=Path(snakemake.input.nsdgeneral),  # noqa: F821
            name=snakemake.params.name,  # noqa: F821
            **settings,
        )
