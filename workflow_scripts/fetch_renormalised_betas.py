"""From MindEye2's address to a local copy of a subject's renormalised betas."""

from pathlib import Path

from neuraldiffuser import runtime
from neuraldiffuser.transfer import whole


def fetch_renormalised_betas(*, path_to_betas: Path, subject: str, address: str) -> None:
    """Fetches the betas of all sessions.

    Args:
        path_to_betas: where they go.
        subject: such as "subj01".
        address: where they lie, with {subject} to fill in.

    Raises:
        FetchError: they do not exist, or did not arrive whole.
    """
    whole.fetch(address.format(subject=subject), path_to_betas)


if __name__ == "__main__":
    with runtime.job(snakemake) as settings:  # noqa: F821
        fetch_renormalised_betas(
            path_to_betas=Path(snakemake.output.betas),  # noqa: F821
            subject=snakemake.wildcards.subject,  # noqa: F821
            **settings,
        )
