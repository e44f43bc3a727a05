"""The stimuli: pictures by 73k id."""

from pathlib import Path

import numpy as np

from neuraldiffuser import storage
from neuraldiffuser.errors import DataError

KEY = "imgBrick"


def read_images(path: Path | str, ids: np.ndarray) -> np.ndarray:
    """The pictures with these ids, in their order.

    Args:
        path: nsd_stimuli.hdf5, dataset ``imgBrick`` uint8 (images, height, width, 3).
        ids: (n,) 0-based 73k ids; may repeat.

    Returns:
        (n, height, width, 3) uint8, sRGB.

    Raises:
        DataError: the file is missing or truncated, holds no such pictures, or an id is beyond it.
    """
    rows = np.asarray(ids, np.int64)
    with storage.open_arrays(path) as file:
        if KEY not in file:
            raise DataError(f"{path} has no dataset {KEY}; delete it and run again.")
        pictures = file[KEY]
        if pictures.ndim != 4 or pictures.shape[3] != 3 or pictures.dtype != np.uint8:
            raise DataError(
                f"{path} holds {KEY} of shape {pictures.shape} and type {pictures.dtype}; expected "
                "(pictures, height, width, 3) and uint8: fetch it again."
            )
        if len(rows) and (rows.min() < 0 or rows.max() >= len(pictures)):
            raise DataError(
                f"{path} holds {len(pictures)} pictures, but ids {rows.min()} to {rows.max()} were "
                "asked for, which belong to another release or world."
            )
        try:
            return storage.pick_rows(pictures, rows)
        except OSError as error:
            raise DataError(f"{path} is truncated; delete it and run again.") from error
