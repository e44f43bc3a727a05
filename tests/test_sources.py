"""The real Snakefile makes the same voxels from every source that the configuration can name.

One S3 server on this machine serves all tests of this file, so they share a worker.
"""

import faulty_s3
import numpy as np
import pytest
from tiny_bucket import write_tiny_bucket
from workflow import World

from neuraldiffuser import storage
from neuraldiffuser.nsd import design, files
from neuraldiffuser.nsd.voxels import read_voxels

BETAS = "betas_fithrf_GLMdenoise_RR"
MADE = "results/tiny/voxels/subj01.h5"
GAP = 2  # the session that one bucket lacks


def session(number, file_format="hdf5"):
    return files.session_betas("subj01", version=BETAS, session=number, file_format=file_format)


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
    return write_tiny_bucket(tmp_path_factory.mktemp("bucket"))


@pytest.fixture(scope="module")
def server(bucket):
    with faulty_s3.serve() as running:
        running.put_folder(bucket, part_bytes=100_000)
        for path in bucket.rglob("*"):
            name = path.relative_to(bucket).as_posix()
            if path.is_file() and name != session(GAP):
                running.put(f"gap/{name}", path.read_bytes())
        yield running


@pytest.fixture(scope="module")
def make_voxels(tmp_path_factory, server):
    def make(**nsd):
        world = World(tmp_path_factory.mktemp("world"))
        answer = world.snakemake(MADE, changes=changes(**nsd))
        assert answer.succeeded, answer.text[-4000:]
        assert "Nothing to be done" in world.dry_run(MADE, changes=changes(**nsd)).text
        return world.folder

    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ENDPOINT_URL", server.endpoint)
        yield make


def changes(**nsd):
    settings = {"terms_accepted": True, "sessions": {"subj01": 3, "subj02": 3}} | nsd
    normalisation = "none" if nsd.get("source") == "mindeye2" else "global_training"
    return {"nsd": settings, "voxels": {"normalisation": normalisation}}


@pytest.fixture(scope="module")
def local(make_voxels, bucket):
    return make_voxels(source="local", bucket=str(bucket))


def require_equal_voxels(folder, expected):
    made, wanted = read_voxels(folder / MADE), read_voxels(expected / MADE)
    for split in ("training", "test"):
        found, reference = getattr(made, split), getattr(wanted, split)
        np.testing.assert_array_equal(found.id, reference.id)
        np.testing.assert_array_equal(found.betas, reference.betas)
    np.testing.assert_array_equal(made.selection.index, wanted.selection.index)


def test_regions_of_a_bucket_equal_a_local_copy(make_voxels, local):
    folder = make_voxels(bucket="s3://natural-scenes-dataset")
    require_equal_voxels(folder, local)
    assert not list(folder.rglob("betas_session01.hdf5"))


def test_whole_sessions_of_a_bucket_equal_a_local_copy(make_voxels, local, bucket):
    folder = make_voxels(bucket="s3://natural-scenes-dataset", fetch="whole")
    require_equal_voxels(folder, local)
    (fetched,) = folder.rglob("subj01/func1pt8mm/*/betas_session01.hdf5")
    assert fetched.read_bytes() == (bucket / session(1)).read_bytes()


def test_a_local_copy_is_read_in_place_and_never_written_to(make_voxels, bucket):
    before = {path: path.stat().st_mtime_ns for path in bucket.rglob("*")}
    folder = make_voxels(source="local", bucket=str(bucket), sessions={"subj01": 2, "subj02": 3})
    assert {path: path.stat().st_mtime_ns for path in bucket.rglob("*")} == before
    assert not list(folder.rglob("betas_session*"))


def test_a_local_copy_that_lacks_a_session_is_refused_before_anything_starts(tmp_path, bucket):
    nsd = {"source": "local", "bucket": str(bucket), "sessions": {"subj01": 4, "subj02": 3}}
    answer = World(tmp_path).snakemake(MADE, changes=changes(**nsd))
    assert not answer.succeeded
    assert f"nsd.bucket lacks 1 of 4 sessions, the first is {bucket / session(4)}" in answer.text
    assert not (tmp_path / "results").exists()


def test_renormalised_betas_are_used_exactly_as_they_are(make_voxels, local, bucket, tmp_path):
    address = tmp_path / "betas_all_{subject}_fp32_renorm.hdf5"
    rows = in_experiment_order(read_voxels(local / MADE), bucket)
    storage.write_arrays(str(address).format(subject="subj01"), {"betas": rows})
    folder = make_voxels(source="mindeye2", bucket=str(bucket), mindeye2_url=str(address))
    require_equal_voxels(folder, local)


def in_experiment_order(voxels, bucket):
    """Normalised betas of all trials in the order in which they were shown."""
    shown = design.join_trials(
        path_to_design=bucket / files.DESIGN,
        path_to_responses=bucket / files.responses("subj01"),
        subject="subj01",
    )
    betas = {
        (number, repeat): row
        for split in (voxels.training, voxels.test)
        for number, repeat, row in zip(split.id, split.repeat, split.betas, strict=True)
    }
    return np.stack([betas[trial] for trial in zip(shown["id"], shown["repeat"], strict=True)])


def test_a_missing_session_is_left_out_and_told(make_voxels, local):
    missing = {"subj01": [GAP]}
    folder = make_voxels(bucket="s3://natural-scenes-dataset/gap", missing_sessions=missing)
    made, whole = read_voxels(folder / MADE), read_voxels(local / MADE)
    assert set(made.training.session) == {1, 3}
    assert len(made.training.id) < len(whole.training.id)
    assert made.missing_sessions == (GAP,)


@pytest.mark.usefixtures("make_voxels")
def test_changed_sessions_and_ways_of_fetching_are_followed_and_fetch_nothing_twice(
    tmp_path, server
):
    world, bucket = World(tmp_path), "s3://natural-scenes-dataset"

    def run(**nsd):
        asked = len(server.requests(session(1)))
        answer = world.snakemake(MADE, changes=changes(bucket=bucket, **nsd))
        assert answer.succeeded, answer.text[-4000:]
        used = set(read_voxels(tmp_path / MADE).training.session)
        return used, len(server.requests(session(1))) - asked

    assert run() == ({1, 2, 3}, pytest.approx(5, abs=4))
    fewer = {"subj01": 2, "subj02": 3}
    assert run(sessions=fewer) == ({1, 2}, 0)
    assert run(sessions=fewer, fetch="whole")[0] == {1, 2}
    assert run(missing_sessions={"subj01": [2]}) == ({1, 3}, 0)
    assert run() == ({1, 2, 3}, 0)


@pytest.mark.usefixtures("make_voxels")
def test_an_absent_session_that_is_not_listed_is_named(tmp_path):
    answer = World(tmp_path).snakemake(
        MADE, changes=changes(bucket="s3://natural-scenes-dataset/gap")
    )
    assert not answer.succeeded
    assert f"{session(GAP)} does not exist; check nsd.bucket, or list the session" in answer.text
    assert "Traceback" not in answer.text
