"""Where the files of a model lie."""

import importlib.util
from pathlib import Path

from neuraldiffuser.config.models import PACKAGE
from neuraldiffuser.errors import DataError


def resolve(place: str | Path) -> Path:
    """A path as it is, or what package://module/path means: a file that a Python package brings.

    Raises:
        DataError: the package is not installed.
    """
    if not str(place).startswith(PACKAGE):
        return Path(place)
    module, _, inside = str(place).removeprefix(PACKAGE).partition("/")
    found = importlib.util.find_spec(module)
    if found is None or not found.submodule_search_locations:
        raise DataError(
            f"{place} comes with the Python package {module}, which is not installed; install the "
            "packages of requirements.txt."
        )
    return Path(found.submodule_search_locations[0], inside)
