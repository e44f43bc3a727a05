"""Every file format against loops over (x, y, z, trial); axes are unequal and values unique."""

import gzip

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
    "compressed": {"chunks": (2, 2, 5, 4), "compression": "gzip"},
    "compressed voxels": {"chunks": (TRIALS, 1, 1, 1), "compression": "gzip"},
    "shuffled voxels": {"chunks": (TRIALS, 1, 1, 1), "shuffle": True},
    "halves of voxels": {"chunks": (4, 1, 1, 1)},
}


@pytest.fixture
def values():
    """Unique int16 (x, y, z, trials)."""
    return np.arange(np.prod(SHAPE) * TRIALS, dtype=np.int16).reshape(*SHAPE, TRIALS) - 200


def write_hdf5(path, values, *, libver="earliest", **layout):
    with h5py.File(path, "w", libver=libver) as file:
        file.create_dataset("betas", data=values.transpose(3, 2, 1, 0), **layout)
    return path


def write_nifti(path, values):
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), path)
    return path


WRITERS = {"hdf5": write_hdf5, "nii.gz": write_nifti, "nii": write_nifti}


def read(path, *, index=INDEX):
    return betas.read_session(path, index=index, volume_shape=SHAPE)


def rows_by_loop(values):
    places = [(x, y, z) for x in range(SHAPE[0]) for y in range(SHAPE[1]) for z in range(SHAPE[2])]
    return np.array([[values[*places[flat], trial] for flat in INDEX] for trial in range(TRIALS)])


# --- HDF5 ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("libver", ["earliest", "latest"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_hdf5_rows_equal_a_loop_in_any_layout(tmp_path, values, layout, libver):
    path = write_hdf5(tmp_path / "betas_session01.hdf5", values, libver=libver, **LAYOUTS[layout])
    rows = read(path)
    np.testing.assert_array_equal(rows, rows_by_loop(values))
    assert rows.dtype == np.int16


@pytest.mark.parametrize("layout", LAYOUTS)
def test_slabs_of_few_bytes_give_the_same_rows(tmp_path, values, layout, monkeypatch):
    monkeypatch.setattr(betas, "BYTES_AT_ONCE", 300)
    path = write_hdf5(tmp_path / "betas_session01.hdf5", values, **LAYOUTS[layout])
    np.testing.assert_array_equal(read(path), rows_by_loop(values))


@pytest.mark.parametrize("layout", ["nsd", "contiguous"])
def test_big_endian_hdf5_is_read_in_this_machines_order(tmp_path, values, layout):
    path = tmp_path / "betas_session01.hdf5"
    rows = read(write_hdf5(path, values, dtype=">i2", **LAYOUTS[layout]))
    np.testing.assert_array_equal(rows, rows_by_loop(values))
    assert rows.dtype.isnative


@pytest.mark.parametrize("written", [[], [5], [0, 5, 16, 59]])
def test_voxels_that_were_never_written_hold_the_fill_value(tmp_path, values, written):
    path = tmp_path / "betas_session01.hdf5"
    expected = np.full(TRIALS * len(INDEX), -7, np.int16).reshape(TRIALS, -1)
    with h5py.File(path, "w") as file:
        shape = (TRIALS, *SHAPE[::-1])
        dataset = file.create_dataset("betas", shape, "i2", chunks=(TRIALS, 1, 1, 1), fillvalue=-7)
        for flat in written:
            x, y, z = np.unravel_index(flat, SHAPE)
            dataset[:, z, y, x] = values[x, y, z]
            expected[:, flat == INDEX] = values[x, y, z][:, None]
    np.testing.assert_array_equal(read(path), expected)


def test_file_behind_a_user_block_is_read(tmp_path, values):
    path = tmp_path / "betas_session01.hdf5"
    with h5py.File(path, "w", userblock_size=512) as file:
        file.create_dataset("betas", data=values.transpose(3, 2, 1, 0), chunks=(TRIALS, 1, 1, 1))
    np.testing.assert_array_equal(read(path), rows_by_loop(values))


def test_file_without_the_dataset_is_refused(tmp_path):
    path = tmp_path / "betas_session01.hdf5"
    h5py.File(path, "w").close()
    with pytest.raises(DataError) as error:
        read(path)
    assert str(error.value) == f"{path} has no dataset betas; delete it and run again."


# --- NIfTI ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["nii.gz", "nii"])
@pytest.mark.parametrize("bytes_at_once", [1, 300, 1 << 22])
def test_nifti_rows_equal_hdf5_rows_to_the_bit(
    tmp_path, values, suffix, bytes_at_once, monkeypatch
):
    monkeypatch.setattr(betas, "BYTES_AT_ONCE", bytes_at_once)
    nifti = write_nifti(tmp_path / f"betas_session01.{suffix}", values)
    hdf5 = write_hdf5(tmp_path / "betas_session01.hdf5", values)
    rows = [read(path) for path in (nifti, hdf5)]
    np.testing.assert_array_equal(*rows)
    np.testing.assert_array_equal(rows[0], rows_by_loop(values))
    assert rows[0].dtype == rows[1].dtype == np.int16


def test_big_endian_nifti_is_read_in_this_machines_order(tmp_path, values):
    path = tmp_path / "betas_session01.nii.gz"
    header = nibabel.Nifti1Header(endianness=">")
    nibabel.save(nibabel.Nifti1Image(values.astype(">i2"), np.eye(4), header), path)
    rows = read(path)
    np.testing.assert_array_equal(rows, rows_by_loop(values))
    assert rows.dtype.isnative


def test_scale_of_the_header_is_applied(tmp_path, values):
    path = tmp_path / "betas_session01.nii.gz"
    image = nibabel.Nifti1Image(values, np.eye(4))
    image.header.set_slope_inter(0.25, 3)
    nibabel.save(image, path)
    np.testing.assert_array_equal(read(path), rows_by_loop(values) * 0.25 + 3)


def test_extensions_of_the_header_are_passed_over(tmp_path, values):
    path = tmp_path / "betas_session01.nii.gz"
    image = nibabel.Nifti1Image(values, np.eye(4))
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"noise " * 99))
    nibabel.save(image, path)
    np.testing.assert_array_equal(read(path), rows_by_loop(values))


def test_nifti_2_is_read(tmp_path, values):
    path = tmp_path / "betas_session01.nii.gz"
    nibabel.save(nibabel.Nifti2Image(values, np.eye(4)), path)
    np.testing.assert_array_equal(read(path), rows_by_loop(values))


def change_checksum(content):
    return content[:-8] + bytes([content[-8] ^ 1]) + content[-7:]


def lose_a_volume(content):
    return gzip.compress(gzip.decompress(content)[: -2 * int(np.prod(SHAPE))])


def flip_a_bit_of_the_volumes(content):
    middle = len(content) - 40
    return content[:middle] + bytes([content[middle] ^ 4]) + content[middle + 1 :]


DAMAGES = [change_checksum, lose_a_volume, flip_a_bit_of_the_volumes, lambda _: b"no image at all"]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_nifti_files_are_refused(tmp_path, values, damage):
    path = write_nifti(tmp_path / "betas_session01.nii.gz", values)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError) as error:
        read(path)
    assert str(error.value) == (
        f"{path} is truncated or is no NIfTI file; delete it and run again."
    )


@pytest.mark.parametrize("suffix", ["nii.gz", "nii"])
def test_nifti_files_that_are_too_long_are_refused(tmp_path, values, suffix):
    path = write_nifti(tmp_path / f"betas_session01.{suffix}", values)
    more = gzip.compress(b"more") if suffix == "nii.gz" else b"more"
    path.write_bytes(path.read_bytes() + more)
    with pytest.raises(DataError) as error:
        read(path)
    assert str(error.value) == f"{path} is longer than its header says; delete it and run again."


# --- all formats ---------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", WRITERS)
def test_transposed_volumes_are_refused(tmp_path, values, suffix):
    path = WRITERS[suffix](tmp_path / f"betas_session01.{suffix}", values.transpose(2, 1, 0, 3))
    with pytest.raises(DataError) as error:
        read(path)
    assert str(error.value) == (
        f"{path} holds volumes of shape (3, 5, 4), but the masks have (4, 5, 3) (x, y, z); "
        "they belong to different subjects or spaces."
    )


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_single_volume_is_refused(tmp_path, values, suffix):
    path = tmp_path / f"betas_session01.{suffix}"
    if suffix == "hdf5":
        with h5py.File(path, "w") as file:
            file["betas"] = values[..., 0].T
    else:
        write_nifti(path, values[..., 0])
    with pytest.raises(DataError, match="holds volumes of shape .4, 5., but the masks have"):
        read(path)


@pytest.mark.parametrize("layout", ["nsd", "contiguous"])
@pytest.mark.parametrize("suffix", WRITERS)
def test_truncated_files_are_refused_in_one_sentence(tmp_path, suffix, layout):
    noise = np.random.default_rng(0).integers(-900, 900, (*SHAPE, TRIALS)).astype(np.int16)
    options = LAYOUTS[layout] if suffix == "hdf5" else {}
    path = WRITERS[suffix](tmp_path / f"betas_session01.{suffix}", noise, **options)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"truncated or is no .* file; delete it and run"):
        read(path)


@pytest.mark.parametrize("suffix", betas.READERS)
def test_missing_files_are_named(tmp_path, suffix):
    path = tmp_path / f"betas_session01{suffix}"
    with pytest.raises(DataError, match=f"{path} is missing"):
        read(path)


def test_other_formats_are_refused(tmp_path):
    path = tmp_path / "betas_session01.mat"
    path.write_bytes(b"MATLAB")
    with pytest.raises(DataError, match="is of no known format; expected one of .*nii.gz"):
        read(path)


@pytest.mark.parametrize("layout", ["nsd", "contiguous"])
def test_non_finite_betas_are_refused(tmp_path, values, layout):
    broken = values.astype(np.float32)
    broken[0, 0, 1, 3] = np.nan
    path = write_hdf5(tmp_path / "betas_session01.hdf5", broken, **LAYOUTS[layout])
    with pytest.raises(DataError) as error:
        read(path)
    assert str(error.value) == (
        f"{path} holds 1 non-finite values out of 42; remove or regenerate the file it came from."
    )


def test_non_finite_betas_outside_the_voxels_do_not_matter(tmp_path, values):
    broken = values.astype(np.float32)
    broken[3, 0, 0, 3] = np.nan
    path = write_hdf5(tmp_path / "betas_session01.hdf5", broken)
    np.testing.assert_array_equal(read(path), rows_by_loop(values))
