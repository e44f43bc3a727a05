"""What a sidecar says of the files that a job read."""

import hashlib

from neuraldiffuser import provenance, storage


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
