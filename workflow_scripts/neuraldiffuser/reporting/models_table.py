"""Which pretrained models stand behind the results, from the receipts of their files."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from neuraldiffuser import storage

SHORT = 12  # characters of a digest
TEXTS = (".json", ".txt")  # configurations and vocabularies; the table shows weights alone
COLUMNS = ("model", "role", "source", "licence", "weights", "sha256", "digest")


def list_models(receipts: Iterable[Path | str]) -> pd.DataFrame:
    """A row per file of weights; what belongs to the whole model stands in its first row alone."""
    rows = [
        row for path in map(Path, receipts) for row in _rows(path.stem, storage.read_json(path))
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def _rows(name: str, receipt: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    told = (name, receipt["role"], receipt["source"] or "on this machine", receipt["licence"])
    for file, found in receipt["files"].items():
        if not file.endswith(TEXTS):
            yield (
                *told,
                file,
                found["sha256"][:SHORT],
                "pinned" if found["pinned"] else "not pinned",
            )
            told = ("",) * len(told)
