"""Pictures of regions: the right voxels at the right places, whichever way the volume lies."""

import io

import nibabel
import numpy as np
import pytest
from draw_regions import draw_regions
from matplotlib import colors
from PIL import Image
from planted_voxels import plant_voxels

from neuraldiffuser import storage
from neuraldiffuser.errors import DataError
from neuraldiffuser.nsd.selection import Selection
from neuraldiffuser.reporting import regions, style

SHAPE = (9, 14, 11)


@pytest.fixture(scope="module")
def selection():
    """Two blocks: V1 at the lower left back, hV4 at the right."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[1:4, 2:5, 1:5] = 1
    labels[6:8, 2:4, 3:5] = 7
    index = np.flatnonzero(labels)
    ceilings = np.linspace(5, 60, len(index), dtype=np.float32)
    return Selection(SHAPE, index, labels.ravel()[index], ceilings)


@pytest.fixture(scope="module")
def mean():
    return np.random.default_rng(0).uniform(100, 900, SHAPE).astype(np.float32)


def write_mean(path, values, codes="RAS"):
    """A NIfTI file of ``values`` (right, front, up) whose axes run as ``codes`` say."""
    turned = nibabel.orientations.ornt_transform(
        nibabel.orientations.axcodes2ornt("RAS"), nibabel.orientations.axcodes2ornt(codes)
    )
    image = nibabel.Nifti1Image(values, np.diag([1.8, 1.8, 1.8, 1])).as_reoriented(turned)
    image.to_filename(path)
    return np.asarray(image.dataobj).shape


def turn(selection, codes):
    """The same voxels in a volume whose axes run as ``codes`` say."""
    turned = nibabel.orientations.axcodes2ornt(codes)
    numbers = nibabel.apply_orientation(
        regions.number_voxels(selection),
        nibabel.orientations.ornt_transform(nibabel.orientations.axcodes2ornt("RAS"), turned),
    )
    index = np.flatnonzero(numbers.ravel() != regions.NOTHING)
    order = numbers.ravel()[index]
    return Selection(numbers.shape, index, selection.roi[order], selection.noise_ceiling[order])


def test_slices_go_through_the_most_voxels(selection):
    inside = regions.number_voxels(selection) != regions.NOTHING
    slices = regions.choose_slices(inside)
    for axis, position in slices[:2]:
        counts = [inside.take(place, axis=axis).sum() for place in range(SHAPE[axis])]
        assert counts[position] == max(counts)
    heights = np.sort(np.unravel_index(selection.index, SHAPE)[2])
    axial = [position for axis, position in slices if axis == 2]
    assert axial == sorted(axial, reverse=True)
    assert axial == [heights[int(np.ceil(q * len(heights))) - 1] for q in (0.75, 0.5, 0.25)]


def test_a_mounted_slice_shows_each_voxel_where_it_lies():
    volume = np.arange(np.prod(SHAPE)).reshape(SHAPE)
    picture = regions.mount(volume, [(0, 2), (2, 5)], empty=-1)
    sagittal, axial = np.split(picture, [SHAPE[1] + 4], axis=1)  # margins of 2 at each side
    for y in range(SHAPE[1]):
        for z in range(SHAPE[2]):
            assert sagittal[z + 3, y + 2] == volume[2, y, z]
    for x in range(SHAPE[0]):
        for y in range(SHAPE[1]):
            assert axial[y + 2, x + 2] == volume[x, y, 5]
    assert (picture != -1).sum() == SHAPE[1] * SHAPE[2] + SHAPE[0] * SHAPE[1]


def test_regions_and_ceilings_are_painted_at_their_voxels(selection):
    voxels = regions.mount(regions.number_voxels(selection), [(2, 4)], empty=regions.NOTHING)
    _, (above, below) = style.new_figure(1, 2)
    regions.plot_regions(above, voxels, selection)
    regions.plot_noise_ceilings(below, voxels, selection)
    paint, ceilings = (ax.images[0].get_array() for ax in (above, below))
    for row, column in np.ndindex(voxels.shape):
        voxel = voxels[row, column]
        if voxel == regions.NOTHING:
            assert paint[row, column, 3] == 0 and ceilings.mask[row, column]
        else:
            name = {1: "V1", 7: "V4"}[selection.roi[voxel]]
            expected = colors.to_rgb(regions.REGIONS[name][1])
            np.testing.assert_allclose(paint[row, column, :3], expected)
            assert ceilings[row, column] == selection.noise_ceiling[voxel]


def test_numbers_are_those_of_the_regions(selection, mean, tmp_path):
    write_mean(tmp_path / "mean.nii.gz", mean)
    anatomy = regions.read_anatomy(tmp_path / "mean.nii.gz", volume_shape=SHAPE)
    drawn = regions.draw("subj03", selection=selection, anatomy=anatomy)
    assert drawn.data["region"].tolist() == ["V1", "hV4"]
    assert drawn.data["voxels"].tolist() == [36, 8]
    by_hand = [
        float(c) for c, r in zip(selection.noise_ceiling, selection.roi, strict=True) if r == 7
    ]
    assert drawn.data["noise_ceiling"][1] == pytest.approx(sum(by_hand) / len(by_hand))
    assert "subj03: V1 36 voxels" in drawn.alt and "L and R left and right" in drawn.caption
    assert Image.open(io.BytesIO(drawn.image)).format == "PNG"


def test_the_picture_is_the_same_whichever_way_the_volume_lies(selection, mean, tmp_path):
    images = {}
    for codes in ("RAS", "LAS", "PSR"):
        path = tmp_path / f"{codes}.nii.gz"
        shape = write_mean(path, mean, codes)
        anatomy = regions.read_anatomy(path, volume_shape=shape)
        turned = turn(selection, codes)
        images[codes] = regions.draw("subj01", selection=turned, anatomy=anatomy).image
    assert images["LAS"] == images["RAS"]
    assert images["PSR"] == images["RAS"]
    mirrored = regions.read_anatomy(tmp_path / "LAS.nii.gz", volume_shape=SHAPE)
    wrong = regions.draw("subj01", selection=selection, anatomy=mirrored)
    assert wrong.image != images["RAS"]


def test_without_an_orientation_no_side_is_marked(selection, mean, tmp_path):
    image = nibabel.Nifti1Image(mean, None)
    image.to_filename(tmp_path / "mean.nii.gz")
    anatomy = regions.read_anatomy(tmp_path / "mean.nii.gz", volume_shape=SHAPE)
    assert anatomy.orientation is None
    drawn = regions.draw("subj01", selection=selection, anatomy=anatomy)
    assert "so no side is marked" in drawn.caption


def test_a_mean_volume_of_another_grid_is_refused(mean, tmp_path):
    path = tmp_path / "mean.nii.gz"
    write_mean(path, mean)
    with pytest.raises(DataError) as caught:
        regions.read_anatomy(path, volume_shape=(9, 11, 14))
    assert str(caught.value) == (
        f"{path} has shape (9, 14, 11), but the subject's voxels lie in (9, 11, 14); fetch it "
        "again."
    )


def test_the_script_draws_without_a_mean_volume_too(selection, tmp_path, monkeypatch):
    planted = plant_voxels(
        training=np.arange(3),
        test=np.arange(2),
        selection=selection,
        valid=np.ones((1, len(selection.index)), bool),
    )
    monkeypatch.setattr("draw_regions.read_voxels", {"subj01.h5": planted}.get)
    paths = {name: tmp_path / f"r.{name}" for name in ("png", "csv", "json")}
    draw_regions(
        path_to_voxels="subj01.h5",
        path_to_mean=None,
        path_to_image=paths["png"],
        path_to_data=paths["csv"],
        path_to_words=paths["json"],
    )
    assert "whose mean this copy of the data lacks" in storage.read_json(paths["json"])["caption"]
    assert Image.open(paths["png"]).size[0] > 1000
