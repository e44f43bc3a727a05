"""The rules' scripts, called as plain functions."""

import filecmp

from fetch_file import fetch_file
from tiny_bucket import betas_paths


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
