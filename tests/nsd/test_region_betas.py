"""A session's region from a bucket on this machine equals the whole session's, whatever happens."""

import errno
import os
import shutil
import subprocess
import sys
from datetime import timedelta
from types import SimpleNamespace

import faulty_s3
import h5py
import numpy as np
import pytest
from tiny_bucket import SUBJECTS, betas_paths, region_paths

from neuraldiffuser import runtime, storage
from neuraldiffuser.errors import AlteredObjectError, DataError, FetchError, MissingObjectError
from neuraldiffuser.mini import recordings
from neuraldiffuser.nsd import betas, chunk_index, region_betas, rois
from neuraldiffuser.transfer import ranges, stores

KEY = "betas_session01.hdf5"


@pytest.fixture(autouse=True)
def impatient_retries(monkeypatch):
    """Three retries at once, so that tests of failures are fast."""
    at_once = {"init_backoff": timedelta(milliseconds=1), "max_backoff": timedelta(milliseconds=2)}
    monkeypatch.setattr(stores, "RETRIES", {"max_retries": 3, "backoff": at_once})


@pytest.fixture(autouse=True)
def no_session_is_small(monkeypatch):
    """The generated sessions would be read in one go, and NSD's never are."""
    monkeypatch.setattr(ranges, "BYTES_READ_AT_ONCE", 0)


def voxels_of(bucket, subject):
    mask = rois.read_volume(region_paths(bucket, subject)["nsdgeneral"])
    return {"index": rois.nsdgeneral_index(mask), "volume_shape": mask.shape}


@pytest.fixture
def voxels(tiny_bucket):
    return voxels_of(tiny_bucket, SUBJECTS[0])


@pytest.fixture
def session(tiny_bucket):
    """A session's file in NSD's layout."""
    return betas_paths(tiny_bucket, SUBJECTS[0])[0]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "nsd" / "betas_session01.nsdgeneral.hdf5"


def require_nothing_written(path):
    assert not path.parent.exists() or not list(path.parent.iterdir())


@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_region_equals_the_whole_session(s3, tmp_path, tiny_bucket, subject):
    voxels = voxels_of(tiny_bucket, subject)
    for session in betas_paths(tiny_bucket, subject):
        address = s3.put(session.name, session.read_bytes())
        path = tmp_path / f"{session.stem}.nsdgeneral.hdf5"
        region_betas.fetch_region(address, path, **voxels)
        rows = betas.read_session(path, **voxels)
        np.testing.assert_array_equal(rows, betas.read_session(session, **voxels))
        assert rows.dtype == np.int16


def test_a_region_says_where_it_comes_from(s3, session, path, voxels, monkeypatch):
    told = {}
    monkeypatch.setattr(runtime, "record", told.update)
    address = s3.put(KEY, session.read_bytes())
    region_betas.fetch_region(address, path, **voxels)
    attributes = storage.read_attributes(path)
    assert tuple(attributes["volume_shape"]) == voxels["volume_shape"]
    assert attributes["source"] == address
    assert told == {"etag": stores.locate(address).etag}
    np.testing.assert_array_equal(storage.read_array(path, "index"), voxels["index"])


def test_a_region_is_read_from_a_folder_too(session, path, voxels):
    region_betas.fetch_region(str(session), path, **voxels)
    whole, region = (betas.read_session(source, **voxels) for source in (session, path))
    np.testing.assert_array_equal(region, whole)


def test_a_small_region_costs_few_bytes(s3, tmp_path, path):
    volumes = np.random.default_rng(0).integers(-900, 900, (22, 25, 20, 40), dtype=np.int16)
    session = tmp_path / KEY
    recordings.write_hdf5(session, volumes)
    corner = np.zeros(volumes.shape[:3], bool)
    corner[5:15, 15:, 17:] = True
    address, index = s3.put(KEY, session.read_bytes()), np.flatnonzero(corner)
    region_betas.fetch_region(address, path, index=index, volume_shape=corner.shape)
    np.testing.assert_array_equal(storage.read_array(path, "betas"), volumes[corner].T)
    assert s3.bytes_served(KEY) < 0.3 * session.stat().st_size


def test_a_small_session_moves_once(s3, session, path, voxels, monkeypatch):
    monkeypatch.setattr(ranges, "BYTES_READ_AT_ONCE", session.stat().st_size)
    address = s3.put(KEY, session.read_bytes())
    region_betas.fetch_region(address, path, **voxels)
    whole, region = (betas.read_session(source, **voxels) for source in (session, path))
    np.testing.assert_array_equal(region, whole)
    assert s3.bytes_served(KEY) == session.stat().st_size


@pytest.mark.parametrize("layout", [{}, {"chunks": (5, 2, 3, 4), "compression": "gzip"}])
def test_another_layout_is_fetched_whole_and_reduced(s3, tmp_path, session, path, voxels, layout):
    other = tmp_path / KEY
    with h5py.File(session) as theirs, h5py.File(other, "w") as ours:
        ours.create_dataset("betas", data=theirs["betas"][()], **layout)
    region_betas.fetch_region(s3.put(KEY, other.read_bytes()), path, **voxels)
    whole, region = (betas.read_session(source, **voxels) for source in (session, path))
    np.testing.assert_array_equal(region, whole)
    assert list(path.parent.iterdir()) == [path]


# --- faults --------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [faulty_s3.refuse, faulty_s3.cut])
@pytest.mark.parametrize("after", [0, 1, 4])
def test_passing_faults_are_survived(s3, session, path, voxels, fault, after):
    address = s3.put(KEY, session.read_bytes())
    s3.fail(KEY, fault, times=2, after=after)
    region_betas.fetch_region(address, path, **voxels)
    whole, region = (betas.read_session(source, **voxels) for source in (session, path))
    np.testing.assert_array_equal(region, whole)


@pytest.mark.parametrize("fault", [faulty_s3.refuse, faulty_s3.cut])
@pytest.mark.parametrize("after", [0, 1, 2])
def test_lasting_faults_are_told_in_one_sentence(s3, session, path, voxels, fault, after):
    address = s3.put(KEY, session.read_bytes())
    s3.fail(KEY, fault, after=after)
    with pytest.raises(FetchError, match=f"{address} could not be fetched") as error:
        region_betas.fetch_region(address, path, **voxels)
    assert "\n" not in str(error.value)
    require_nothing_written(path)


@pytest.mark.usefixtures("s3")
def test_a_missing_session_is_told_apart(path, voxels):
    with pytest.raises(MissingObjectError, match="does not exist"):
        region_betas.fetch_region(f"s3://{faulty_s3.BUCKET}/{KEY}", path, **voxels)
    require_nothing_written(path)


@pytest.mark.parametrize("after", [1, 3])
def test_a_session_that_is_replaced_meanwhile_is_refused(s3, session, path, voxels, after):
    address = s3.put(KEY, session.read_bytes())

    def restamp(response):
        response.headers["ETag"] = '"0123456789abcdef0123456789abcdef"'
        return response

    s3.fail(KEY, restamp, after=after)
    with pytest.raises(AlteredObjectError, match=f"{address} changed while it was read"):
        region_betas.fetch_region(address, path, **voxels)
    require_nothing_written(path)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_truncated_session_is_refused(s3, session, path, voxels, share):
    content = session.read_bytes()
    address = s3.put(KEY, content[: int(share * len(content))])
    with pytest.raises(DataError) as error:
        region_betas.fetch_region(address, path, **voxels)
    assert str(error.value) == (
        f"{address} is truncated or is no HDF5 file; check it at its source."
    )
    require_nothing_written(path)


def test_a_session_on_another_grid_is_refused(s3, session, path, voxels):
    x, y, z = voxels["volume_shape"]
    address = s3.put(KEY, session.read_bytes())
    with pytest.raises(DataError, match=f"{address} holds volumes of shape"):
        region_betas.fetch_region(address, path, index=voxels["index"], volume_shape=(z, y, x))
    require_nothing_written(path)


def test_too_little_space_is_told_before_the_voxels_are_fetched(
    s3, session, path, voxels, monkeypatch
):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    monkeypatch.setattr(chunk_index, "read_voxels", pytest.fail)
    address = s3.put(KEY, session.read_bytes())
    with pytest.raises(FetchError) as error:
        region_betas.fetch_region(address, path, **voxels)
    needed = len(voxels["index"]) * 40 * 2
    assert str(error.value) == (
        f"{address} needs {needed / 1e9:.3g} GB, and 1e-06 GB are free in {path.parent}; make room "
        "there, or choose another folder."
    )
    require_nothing_written(path)


FETCH_ONTO_A_SMALL_DISK = """
import resource, sys
import numpy as np
from neuraldiffuser.nsd import region_betas
address, path, shape, limit = sys.argv[1], sys.argv[2], eval(sys.argv[3]), int(sys.argv[4])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
index = np.arange(np.prod(shape))
region_betas.fetch_region(address, path, index=index, volume_shape=shape)
"""


@pytest.mark.parametrize("share", [0, 0.5, 0.99])
def test_a_disk_that_takes_no_more_is_told_in_one_sentence(session, path, voxels, share):
    limit = int(share * 2 * np.prod(voxels["volume_shape"]) * 40)
    arguments = [session, path, voxels["volume_shape"], limit]
    process = subprocess.run(
        [sys.executable, "-c", FETCH_ONTO_A_SMALL_DISK, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 1, "an exception, and no crash of HDF5"
    assert process.stderr.splitlines()[-1] == (
        f"neuraldiffuser.errors.FetchError: {path} could not be written (File too large); make "
        "room for it and run again."
    )
    require_nothing_written(path)


@pytest.fixture
def contiguous(tmp_path, session):
    """The same session in a layout that is not NSD's."""
    other = tmp_path / KEY
    with h5py.File(session) as theirs, h5py.File(other, "w") as ours:
        ours["betas"] = theirs["betas"][()]
    return other


def fill_the_disk(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_whole_copy_outlives_a_failure_and_is_not_fetched_twice(
    s3, contiguous, path, voxels, monkeypatch
):
    address = s3.put(KEY, contiguous.read_bytes())
    with monkeypatch.context() as full:
        full.setattr(storage, "write_bytes", fill_the_disk)
        with pytest.raises(FetchError, match=r"could not be written \(No space left on device\)"):
            region_betas.fetch_region(address, path, **voxels)
    [copy] = path.parent.iterdir()
    assert copy.read_bytes() == contiguous.read_bytes()
    before = len(s3.requests(KEY))
    region_betas.fetch_region(address, path, **voxels)
    assert len(s3.requests(KEY)) - before == before - 1, "its layout is looked at, nothing more"
    assert list(path.parent.iterdir()) == [path]


def test_a_whole_copy_of_another_version_is_fetched_anew(s3, contiguous, path, voxels):
    address = s3.put(KEY, contiguous.read_bytes())
    path.parent.mkdir()
    content = contiguous.read_bytes()
    path.with_suffix(".whole.hdf5").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    region_betas.fetch_region(address, path, **voxels)
    whole, region = (betas.read_session(source, **voxels) for source in (contiguous, path))
    np.testing.assert_array_equal(region, whole)
    assert list(path.parent.iterdir()) == [path]


# --- reading it again ----------------------------------------------------------------------------


def test_a_region_of_other_voxels_is_refused(session, path, voxels):
    region_betas.fetch_region(str(session), path, **voxels)
    with pytest.raises(DataError) as error:
        betas.read_session(path, **voxels | {"index": voxels["index"][1:]})
    assert str(error.value) == (
        f"{path} holds other voxels than the mask; delete it and run again."
    )


def test_a_region_of_another_grid_is_refused(session, path, voxels):
    region_betas.fetch_region(str(session), path, **voxels)
    x, y, z = voxels["volume_shape"]
    with pytest.raises(DataError, match="they belong to different subjects or spaces"):
        betas.read_session(path, index=voxels["index"], volume_shape=(z, y, x))


def test_a_truncated_region_is_refused(session, path, voxels):
    region_betas.fetch_region(str(session), path, **voxels)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=f"{path} is truncated or is no HDF5 file"):
        betas.read_session(path, **voxels)
