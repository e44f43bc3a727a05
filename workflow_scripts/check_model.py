"""Checks a file of a model before anything reads it: a file enters, a receipt leaves."""

from pathlib import Path

from neuraldiffuser import runtime, storage
from neuraldiffuser.config.models import PinnedFile
from neuraldiffuser.models import check, pins, places


def check_model(
    *,
    place: Path | str,
    path_to_receipt: Path | str,
    path_to_seen: Path | str,
    key: str,
    pin: PinnedFile,
    loader: str,
) -> None:
    """Writes what the file is: its size and its digest.

    Args:
        place: the file's path, or package://module/path.
        path_to_receipt: where what was found goes, as JSON.
        path_to_seen: how the file looked goes, for whoever plans the next run.
        key: where in the configuration the pin stands.
        pin: what the file must be, as far as that is known.
        loader: of the model.

    Raises:
        DataError: the file is missing, not the pinned one, or could run code.
    """
    path = places.resolve(place)
    storage.write_json(path_to_receipt, check.check_file(path, pin, loader=loader, key=key))
    storage.write_json(path_to_seen, {"look": pins.look(path)})


if __name__ == "__main__":
    with runtime.job(snakemake) as settings:  # noqa: F821
        check_model(
            place=snakemake.params.place,  # noqa: F821
            path_to_receipt=snakemake.output.receipt,  # noqa: F821
            path_to_seen=snakemake.output.seen,  # noqa: F821
            key=snakemake.params.key,  # noqa: F821
            pin=PinnedFile(**snakemake.params.pin),  # noqa: F821
            **settings,
        )
