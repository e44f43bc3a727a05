"""COCO captions of the stimuli, found through each 73k id's COCO picture."""

import zipfile
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from neuraldiffuser import storage
from neuraldiffuser.errors import DataError

SPLITS = ("train2017", "val2017")


def read_captions(
    *,
    path_to_information: Path | str,
    paths_to_annotations: Iterable[Path | str],
    ids: np.ndarray,
) -> dict[int, tuple[str, ...]]:
    """All captions of each id, in the order of COCO's annotation ids.

    Args:
        path_to_information: nsd_stim_info_merged.csv: nsdId (0-based 73k id), cocoId, cocoSplit.
        paths_to_annotations: captions_train2017.json and captions_val2017.json.
        ids: 73k ids.

    Raises:
        DataError: a file is missing or damaged, or an id has no picture or no caption.
    """
    split_and_coco = read_coco_ids(path_to_information)
    written = {split_of(path): read_annotations(path) for path in paths_to_annotations}
    wanted = [int(number) for number in np.unique(ids)]
    unknown = [number for number in wanted if number not in split_and_coco]
    if unknown:
        raise DataError(
            f"{path_to_information} does not know the 73k id {unknown[0]}; it belongs to another "
            "release or world than the trials."
        )
    found = {
        number: written.get(split_and_coco[number][0], {}).get(split_and_coco[number][1], ())
        for number in wanted
    }
    silent = [number for number, texts in found.items() if not texts]
    if silent:
        raise DataError(
            f"{len(silent)} pictures have no caption, 73k id {silent[0]} among them; the captions "
            "belong to another release of COCO than NSD's (2017)."
        )
    return found


def read_coco_ids(path: Path | str) -> dict[int, tuple[str, int]]:
    """COCO split ("train2017" or "val2017") and picture id of each 73k id.

    Raises:
        DataError: the table is missing, lacks a column or a number, or lists an id twice.
    """
    table = storage.read_table(path)
    missing = {"nsdId", "cocoId", "cocoSplit"} - set(table.columns)
    if missing:
        raise DataError(f"{path} lacks the columns {', '.join(sorted(missing))}; fetch it again.")
    numbers = table[["nsdId", "cocoId"]]
    if not all(kind.kind == "i" for kind in numbers.dtypes):
        raise DataError(f"{path} has an nsdId or cocoId that is no whole number; fetch it again.")
    if not table["cocoSplit"].isin(SPLITS).all():
        raise DataError(
            f"{path} has a cocoSplit other than {' and '.join(SPLITS)}; fetch it again."
        )
    repeated = table.loc[table["nsdId"].duplicated(), "nsdId"]
    if len(repeated):
        raise DataError(f"{path} lists the 73k id {repeated.iloc[0]} twice; fetch it again.")
    columns = (table[name].tolist() for name in ("nsdId", "cocoSplit", "cocoId"))
    return {number: (split, coco) for number, split, coco in zip(*columns, strict=True)}


def split_of(path: Path | str) -> str:
    """ "train2017" for captions_train2017.json."""
    return Path(path).stem.removeprefix("captions_")


def read_annotations(path: Path | str) -> Mapping[int, tuple[str, ...]]:
    """Captions of each COCO picture, stripped, in the order of their annotation ids."""
    content = storage.read_json(path)
    texts: dict[int, list[str]] = defaultdict(list)
    try:
        for annotation in sorted(content["annotations"], key=lambda item: item["id"]):
            texts[int(annotation["image_id"])].append(annotation["caption"].strip())
    except (KeyError, TypeError) as error:
        raise DataError(f"{path} is no COCO caption file (no {error}); fetch it again.") from error
    return {picture: tuple(lines) for picture, lines in texts.items()}


def unpack(path_to_archive: Path | str, paths_to_annotations: Iterable[Path | str]) -> None:
    """Unpacks the named caption files from COCO's archive of annotations.

    Raises:
        DataError: the archive is damaged or lacks one of them.
    """
    try:
        with zipfile.ZipFile(path_to_archive) as archive:
            for path in paths_to_annotations:
                content = archive.read(f"annotations/{Path(path).name}")
                storage.write_bytes(path, content)
    except (zipfile.BadZipFile, EOFError) as error:
        raise DataError(f"{path_to_archive} is truncated; delete it and run again.") from error
    except KeyError as error:
        raise DataError(f"{path_to_archive} lacks {error}; check nsd.captions_url.") from error
