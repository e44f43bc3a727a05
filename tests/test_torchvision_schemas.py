"""torchvision imports beside a CPU-only torch, and nothing is declared where it needs no help."""

import os
import subprocess
import sys
from pathlib import Path

import torch

from neuraldiffuser import torchvision_schemas

SCRIPTS = Path(torchvision_schemas.__file__).parents[1]


def import_works(statement: str) -> bool:
    environment = os.environ | {"PYTHONPATH": str(SCRIPTS)}
    command = [sys.executable, "-c", statement]
    return subprocess.run(command, env=environment, capture_output=True).returncode == 0


def test_torchvision_imports_after_the_module():
    assert import_works("import neuraldiffuser.torchvision_schemas; import torchvision")


def test_torchvision_alone_imports_only_where_its_compiled_library_loads():
    assert import_works("import torchvision") is torchvision_schemas.compiled_library_loads()


def test_declares_nothing_where_the_compiled_library_loads(monkeypatch):
    monkeypatch.setattr(torchvision_schemas, "compiled_library_loads", lambda: True)
    assert torchvision_schemas.register_missing_schemas() is None


def test_declares_both_schemas_where_it_does_not_load(monkeypatch):
    monkeypatch.setattr(torchvision_schemas, "compiled_library_loads", lambda: False)
    torchvision_schemas.register_missing_schemas()
    for name in ("nms", "qnms"):
        schema = str(getattr(torch.ops.torchvision, name).default._schema)
        assert schema.startswith(f"torchvision::{name}(Tensor dets, Tensor scores, float")
