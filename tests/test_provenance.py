"""What a sidecar says of a job, of its run and of the files that it read."""

import hashlib
import json
from types import SimpleNamespace

from neuraldiffuser import provenance, runtime, storage


def make_job(folder, name):
    """What Snakemake hands to a script without settings."""
    return SimpleNamespace(
        rule="draw_regions",
        input=[],
        output=[str(folder / name)],
        log=[str(folder / f"{name}.log")],
        params=SimpleNamespace(settings=json.dumps({}), code="as written"),
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
    path = tmp_path / "voxels.h5"
    path.write_bytes(b"anything")
    storage.write_json(provenance.sidecar_path(path), {"sha256": "as recorded"})
    assert provenance.identify(path) == "as recorded"


def test_a_small_file_is_called_by_its_digest(tmp_path):
    path = tmp_path / "design.mat"
    path.write_bytes(b"anything")
    assert provenance.identify(path) == hashlib.sha256(b"anything").hexdigest()


def test_a_large_file_of_others_is_not_read(tmp_path, monkeypatch):
    path = tmp_path / "betas_session01.hdf5"
    with path.open("wb") as file:
        file.truncate(provenance.LARGEST_TO_DIGEST + 1)
    monkeypatch.setattr(provenance, "digest_file", None)
    before = provenance.identify(path)
    assert before.startswith(f"{provenance.LARGEST_TO_DIGEST + 1} bytes, changed 2")
    with path.open("ab") as file:
        file.write(b"more")
    assert provenance.identify(path) != before
