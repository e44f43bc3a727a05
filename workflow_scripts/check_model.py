"""Checks a model's files before anything reads them: weights enter, a receipt leaves."""

from pathlib import Path

from neuraldiffuser import runtime, storage
from neuraldiffuser.config.models import PretrainedModel
from neuraldiffuser.models import check, places


def check_model(
    *, place: Path | str, path_to_receipt: Path | str, name: str, model: PretrainedModel
) -> None:
    """Writes which files the model consists of, with their digests.

    Args:
        place: folder of its files, or package://module.
        path_to_receipt: where what was found goes, as JSON.
        name: the model's in the zoo.
        model: its description.

    Raises:
        DataError: a file is missing, not the pinned one, or could run code.
    """
    found = check.check_files(model, places.resolve(place), name=name)
    storage.write_json(path_to_receipt, found)


if __name__ == "__main__":
    with runtime.job(snakemake) as settings:  # noqa: F821
        check_model(
            place=snakemake.params.place,  # noqa: F821
            path_to_receipt=snakemake.output.receipt,  # noqa: F821
            name=snakemake.wildcards.model,  # noqa: F821
            **settings,
        )
