"""From a model's source to a verified local copy of one of its files."""

from collections.abc import Mapping
from pathlib import Path

from neuraldiffuser import runtime
from neuraldiffuser.transfer import whole


def fetch_model(*, path_to_file: Path | str, name: str, sources: Mapping[str, str]) -> None:
    """Fetches one file of a model.

    Args:
        path_to_file: where it goes.
        name: its path below paths.models.
        sources: address of a folder or file by its path below paths.models.

    Raises:
        FetchError: it does not exist, or did not arrive whole.
    """
    # The longest path wins: a folder inside another one may come from elsewhere.
    source = max((path for path in sources if _is_within(name, path)), key=len)
    whole.fetch(sources[source] + name.removeprefix(source), path_to_file)


def _is_within(name: str, path: str) -> bool:
    return name == path or name.startswith(f"{path}/")


if __name__ == "__main__":
    with runtime.job(snakemake) as settings:  # noqa: F821
        fetch_model(
            path_to_file=snakemake.output.file,  # noqa: F821
            name=snakemake.wildcards.file,  # noqa: F821
            **settings,
        )
