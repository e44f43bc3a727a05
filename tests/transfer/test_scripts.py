"""The rules' scripts, called as plain functions."""

import filecmp
import hashlib
import logging

from fetch_file import fetch_file
from fetch_model import fetch_model
from tiny_bucket import betas_paths

from neuraldiffuser.config.models import PinnedFile


def test_a_session_arrives_from_a_bucket_in_parts(s3, tiny_bucket, tmp_path):
    session = betas_paths(tiny_bucket, "subj01")[0]
    bucket = s3.put_folder(tiny_bucket, part_bytes=100_000)
    fetch_file(
        path_to_copy=tmp_path / "copy.hdf5",
        name=session.relative_to(tiny_bucket).as_posix(),
        bucket=f"{bucket}/",
        region="us-east-2",
    )
    assert filecmp.cmp(tmp_path / "copy.hdf5", session, shallow=False)


def test_the_log_tells_what_to_pin(tmp_path, caplog):
    source, copy = tmp_path / "source/unet/weights.bin", tmp_path / "models/weights.bin"
    source.parent.mkdir(parents=True)
    source.write_bytes(b"weights")
    sha256 = hashlib.sha256(b"weights").hexdigest()
    fetch = {"path_to_copy": copy, "file": "unet/weights.bin", "source": f"{tmp_path}/source"}
    caplog.set_level(logging.INFO, logger="neuraldiffuser")
    fetch_model(**fetch, pin=PinnedFile(size=7))
    assert copy.read_bytes() == b"weights"
    assert caplog.messages[-1] == (
        "unet/weights.bin is not pinned: to accept no other file, pin "
        f"{{size: 7, sha256: {sha256}}}."
    )
    caplog.clear()
    fetch_model(**fetch, pin=PinnedFile(sha256=sha256))
    assert not caplog.messages
