"""What a sidecar says of a job, of its run and of the files that it read."""

import hashlib
import json
from types import SimpleNamespace

import pytest
from snakemake.iocontainers import Params

from neuraldiffuser import provenance, runtime, storage


def make_job(folder, name):
    """What Snakemake hands to a script without settings."""
    return SimpleNamespace(
        rule="draw_regions",
        input=[],
        output=[str(folder / name)],
        log=[str(folder / f"{name}.log")],
        params=Params(fromdict={"settings": json.dumps({}), "code": "as written"}),
        resources={},
        threads=1,
        wildcards=[],
    )


def test_what_a_run_finds_out_stands_beside_what_it_made(tmp_path, monkeypatch):
    """And beside nothing that the next job makes."""
    monkeypatch.setattr(runtime, "_start", lambda _execution: None)  # leaves this process's log
    monkeypatch.setattr(runtime, "OFFLINE", {})
    for name, facts in {"first": {"scales": {"color": 2.5}, "clipped": 3}, "second": {}}.items():
        with runtime.job(make_job(tmp_path, name)):
            runtime.record(**facts)
            (tmp_path / name).write_bytes(b"anything")
        sidecar = storage.read_json(provenance.sidecar_path(tmp_path / name))
        assert sidecar["measured"] == facts
        assert sidecar["stage"] == "draw_regions"


def test_an_artefact_is_called_by_the_digest_in_its_sidecar(tmp_path):
    """Until it is another file, which is called by its own."""
    path = tmp_path / "voxels.h5"
    path.write_bytes(b"anything")
    provenance.write_sidecars(
        outputs=[path],
        inputs=[],
        stage="prepare_voxels",
        settings={},
        parameters={},
        code="as written",
        device="cpu",
        seconds=1.0,
        measured={},
    )
    sidecar = storage.read_json(provenance.sidecar_path(path))
    storage.write_json(provenance.sidecar_path(path), sidecar | {"sha256": "as recorded"})
    assert provenance.identify(path) == "as recorded"
    path.write_bytes(b"something")
    assert provenance.identify(path) == hashlib.sha256(b"something").hexdigest()


def test_a_file_without_a_sidecar_is_called_by_its_digest(tmp_path):
    path = tmp_path / "design.mat"
    path.write_bytes(b"anything")
    assert provenance.identify(path) == hashlib.sha256(b"anything").hexdigest()
    assert provenance.identify(tmp_path) == "folder"


@pytest.mark.parametrize("told", [b"", b"{", b"\xff\xfe", b"[]", b'{"sha256": "older"}'])
def test_a_sidecar_that_cannot_be_read_is_none(tmp_path, told):
    path = tmp_path / "voxels.h5"
    provenance.sidecar_path(path).write_bytes(told)
    assert provenance.read_sidecar(path) is None
