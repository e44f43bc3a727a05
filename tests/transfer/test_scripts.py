"""The rules' scripts, called as plain functions."""

import filecmp

from fetch_file import fetch_file
from fetch_model import fetch_model
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


def test_a_file_of_a_model_comes_from_the_source_of_its_own_folder(tmp_path):
    for name in ("diffusion/config", "diffusion/vae/config", "elsewhere/config"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    sources = {"sd": f"{tmp_path}/diffusion", "sd/vae": f"{tmp_path}/elsewhere"}
    for name, source in {
        "sd/config": "diffusion/config",
        "sd/vae/config": "elsewhere/config",
    }.items():
        fetch_model(path_to_file=tmp_path / "copy" / name, name=name, sources=sources)
        assert (tmp_path / "copy" / name).read_text() == source
