"""Lets torchvision be imported beside a CPU-only torch.

PyPI's torchvision is linked against CUDA. Beside a CPU-only torch its compiled library cannot be
loaded, the operators ``torchvision::nms`` and ``torchvision::qnms`` stay unknown, and importing
torchvision fails where it registers their shape functions. Importing this module first declares
the two schemas, only in that case. Nothing here calls either operator.
"""

import importlib.util
from pathlib import Path

import torch

SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


def compiled_library_loads() -> bool:
    """Whether torchvision's compiled operators can be loaded beside the installed torch."""
    package = importlib.util.find_spec("torchvision")
    libraries = list(Path(package.origin).parent.glob("_C*.so")) if package else []
    try:
        for library in libraries:
            torch.ops.load_library(library)
    except OSError:
        return False
    return True


def register_missing_schemas() -> torch.library.Library | None:
    """Declares the schemas torchvision needs, if its own library cannot; returns the owner."""
    if compiled_library_loads():
        return None
    library = torch.library.Library("torchvision", "FRAGMENT")
    for schema in SCHEMAS:
        name = schema.partition("(")[0]
        if not hasattr(torch.ops.torchvision, name):
            library.define(schema)
    return library


# Held for the life of the process: torch forgets the schemas when their library is collected.
REGISTERED = register_missing_schemas()
