"""Both file formats against loops over (x, y, z, trial); axes are unequal and values unique."""

import h5py
import nibabel
import numpy as np
import pytest

from neuraldiffuser.errors import DataError
from neuraldiffuser.nsd import betas

SHAPE = (4, 5, 3)
TRIALS = 7
INDEX = np.array([0, 1, 5, 16, 37, 59])
LAYOUTS = {
    "nsd": {"chunks": (TRIALS, 1, 1, 1)},
    "contiguous": {},
    "compressed": {"chunks": (2, 3, 5, 4), "compression": "gzip"},
}


@pytest.fixture
def values():
    """Unique int16 (x, y, z, trials)."""
    return np.arange(np.prod(SHAPE) * TRIALS, dtype=np.int16).reshape(*SHAPE, TRIALS) - 200


def write_hdf5(path, values, **layout):
    with h5py.File(path, "w") as file:
        file.create_dataset("betas", data=values.transpose(3, 2, 1, 0), **layout)
    return path


def write_nifti(path, values):
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), path)
    return path


def rows_by_loop(values):
    places = [(x, y, z) for x in range(SHAPE[0]) for y in range(SHAPE[1]) for z in range(SHAPE[2])]
    return np.array(
        [[values[*places[flat], trial] / 300 for flat in INDEX] for trial in range(TRIALS)]
    )


@pytest.mark.parametrize("layout", LAYOUTS)
def test_hdf5_rows_equal_a_loop_in_any_layout(tmp_path, values, layout):
    path = write_hdf5(tmp_path / "betas_session01.hdf5", values, **LAYOUTS[layout])
    rows = betas.read_session(path, index=INDEX, volume_shape=SHAPE)
    np.testing.assert_allclose(rows, rows_by_loop(values), rtol=1e-6)
    assert rows.dtype == np.float32


def test_nifti_rows_equal_hdf5_rows_to_the_bit(tmp_path, values):
    nifti = write_nifti(tmp_path / "betas_session01.nii.gz", values)
    hdf5 = write_hdf5(tmp_path / "betas_session01.hdf5", values)
    rows = [betas.read_session(path, index=INDEX, volume_shape=SHAPE) for path in (nifti, hdf5)]
    np.testing.assert_array_equal(*rows)
    np.testing.assert_allclose(rows[0], rows_by_loop(values), rtol=1e-6)


@pytest.mark.parametrize("write", [write_hdf5, write_nifti])
def test_transposed_volumes_are_refused(tmp_path, values, write):
    suffix = "hdf5" if write is write_hdf5 else "nii.gz"
    path = write(tmp_path / f"betas_session01.{suffix}", values.transpose(2, 1, 0, 3))
    with pytest.raises(DataError) as error:
        betas.read_session(path, index=INDEX, volume_shape=SHAPE)
    assert str(error.value) == (
        f"{path} holds volumes of shape (3, 5, 4), but the masks have (4, 5, 3) (x, y, z); "
        "they belong to different subjects or spaces."
    )


def truncate(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize("suffix", ["hdf5", "nii.gz"])
def test_truncated_files_are_refused_in_one_sentence(tmp_path, suffix):
    noise = np.random.default_rng(0).integers(-900, 900, (*SHAPE, TRIALS)).astype(np.int16)
    path = tmp_path / f"betas_session01.{suffix}"
    {"hdf5": write_hdf5, "nii.gz": write_nifti}[suffix](path, noise)
    truncate(path)
    with pytest.raises(DataError, match=r"truncated or is no .* file; delete it and run"):
        betas.read_session(path, index=INDEX, volume_shape=SHAPE)


@pytest.mark.parametrize("suffix", ["hdf5", "nii.gz"])
def test_missing_files_are_named(tmp_path, suffix):
    path = tmp_path / f"betas_session01.{suffix}"
    with pytest.raises(DataError, match=f"{path} is missing"):
        betas.read_session(path, index=INDEX, volume_shape=SHAPE)


def test_non_finite_betas_are_refused(tmp_path, values):
    broken = values.astype(np.float32)
    broken[0, 0, 1, 3] = np.nan
    path = write_hdf5(tmp_path / "betas_session01.hdf5", broken)
    with pytest.raises(DataError) as error:
        betas.read_session(path, index=INDEX, volume_shape=SHAPE)
    assert str(error.value) == (
        f"{path} holds 1 non-finite values out of 42; remove or regenerate the file it came from."
    )


def test_non_finite_betas_outside_the_voxels_do_not_matter(tmp_path, values):
    broken = values.astype(np.float32)
    broken[3, 0, 0, 3] = np.nan
    path = write_hdf5(tmp_path / "betas_session01.hdf5", broken)
    rows = betas.read_session(path, index=INDEX, volume_shape=SHAPE)
    np.testing.assert_allclose(rows, rows_by_loop(values), rtol=1e-6)


def test_file_without_the_dataset_is_refused(tmp_path):
    path = tmp_path / "betas_session01.hdf5"
    h5py.File(path, "w").close()
    with pytest.raises(DataError, match="has no dataset betas; delete it and run again"):
        betas.read_session(path, index=INDEX, volume_shape=SHAPE)
