"""Which pretrained models stand behind the results: what they are, and what was found of them."""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pandas as pd

from neuraldiffuser import storage
from neuraldiffuser.config.models import PretrainedModel

SHORT = 12  # characters of a digest
SKIPPED = "not there: its judges are skipped"
TEXTS = (".json", ".txt")  # configurations and vocabularies; the table shows weights alone
COLUMNS = ("model", "part", "sha256", "digest", "role", "licence", "source")
COMMIT = re.compile(r"(?<=@[0-9a-f]{12})[0-9a-f]{28}$")  # what of a commit is not shown


def list_models(
    models: Mapping[str, PretrainedModel], receipts: Iterable[Path | str]
) -> pd.DataFrame:
    """A row per file of weights; what belongs to the whole model stands in its first row alone.

    Args:
        models: the zoo's description by name.
        receipts: models/{name}/{file}.json of the files of weights; only judges may have none.
    """
    paths = [Path(path).as_posix() for path in receipts]
    rows = [row for name, model in models.items() for row in _rows(name, model, paths)]
    return pd.DataFrame(rows, columns=COLUMNS)


def _rows(name: str, model: PretrainedModel, paths: list[str]) -> Iterator[tuple[str, ...]]:
    source = model.folder or COMMIT.sub("", model.source) or "on this machine"
    shown, told = name, (model.role, model.licence, source)
    for file, pin in model.files.items():
        if not file.endswith(TEXTS):
            found = [path for path in paths if path.endswith(f"/models/{name}/{file}.json")]
            sha256 = storage.read_json(found[0])["sha256"][:SHORT] if found else SKIPPED
            part = file.rpartition("/")[0]
            yield shown, part, sha256, "pinned" if pin.sha256 else "not pinned", *told
            shown, told = "", ("",) * len(told)
