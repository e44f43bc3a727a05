"""Which pretrained models stand behind the results: what they are, and what was found of them."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pandas as pd

from neuraldiffuser import storage
from neuraldiffuser.config.models import PretrainedModel

SHORT = 12  # characters of a digest
TEXTS = (".json", ".txt")  # configurations and vocabularies; the table shows weights alone
COLUMNS = ("model", "role", "source", "licence", "weights", "sha256", "digest")


def list_models(
    models: Mapping[str, PretrainedModel], receipts: Iterable[Path | str]
) -> pd.DataFrame:
    """A row per file of weights; what belongs to the whole model stands in its first row alone.

    Args:
        models: the zoo's description by name.
        receipts: models/{name}/{file}.json of every file of weights.
    """
    paths = [Path(path).as_posix() for path in receipts]
    rows = [row for name, model in models.items() for row in _rows(name, model, paths)]
    return pd.DataFrame(rows, columns=COLUMNS)


def _rows(name: str, model: PretrainedModel, paths: list[str]) -> Iterator[tuple[str, ...]]:
    told = (name, model.role, model.folder or model.source or "on this machine", model.licence)
    for file, pin in model.files.items():
        if not file.endswith(TEXTS):
            (receipt,) = [path for path in paths if path.endswith(f"/{name}/{file}.json")]
            sha256 = storage.read_json(receipt)["sha256"]
            yield *told, file, sha256[:SHORT], "pinned" if pin.sha256 else "not pinned"
            told = ("",) * len(told)
