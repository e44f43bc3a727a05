"""Splitting and joining, against loops and the generator's ground truth."""

import dataclasses

import h5py
import numpy as np
import pandas as pd
import pytest
from tiny_bucket import betas_paths, region_paths

from neuraldiffuser.errors import DataError
from neuraldiffuser.nsd import design, files, voxels
from neuraldiffuser.nsd.normalisation import NORMALISATIONS


@pytest.mark.parametrize("name", NORMALISATIONS)
def test_invalid_voxels_are_zero_where_they_are_invalid(betas, rows, selection, name):
    built = build(betas, rows, selection, normalisation=name, invalid_voxels="zero")
    assert built.statistics.valid.sum(axis=0).tolist() == [3, 3, 2, 3, 0]
    assert not built.training.betas[built.training.session == 2, 2].any()
    assert built.training.betas[built.training.session == 1, 2].all()
    assert not built.test.betas[:, 4].any()
    assert np.isfinite(built.training.betas).all()


def build(betas, rows, selection, *, normalisation="session_training", invalid_voxels="zero"):
    return voxels.build_voxels(
        betas,
        rows,
        subject="subj01",
        selection=selection,
        normalisation=normalisation,
        invalid_voxels=invalid_voxels,
    )


def test_dropped_voxels_leave_every_array(betas, rows, selection):
    built = build(betas, rows, selection, invalid_voxels="drop")
    assert built.selection.index.tolist() == [1, 4, 12]
    assert built.selection.roi.tolist() == [0, 1, 7]
    assert built.selection.noise_ceiling.tolist() == [10, 20, 40]
    assert built.training.betas.shape[1] == built.statistics.mean.shape[1] == 3
    kept = build(betas, rows, selection, invalid_voxels="zero")
    np.testing.assert_array_equal(built.test.betas, kept.test.betas[:, [0, 1, 3]])


def test_shared_trials_are_the_test_and_no_others(betas, rows, selection):
    built = build(betas, rows, selection)
    assert set(built.test.id % 3) == {0}
    assert not set(built.training.id) & set(built.test.id)
    assert len(built.training.id) + len(built.test.id) == len(rows)


def test_averages_join_repeats_by_id(betas, rows, selection):
    built = build(betas, rows, selection)
    ids, means = built.averaged("test")
    assert ids.tolist() == sorted(set(built.test.id))
    for number, mean in zip(ids, means, strict=True):
        repeats = built.test.betas[built.test.id == number].astype(float)
        np.testing.assert_allclose(mean, repeats.sum(axis=0) / len(repeats), atol=1e-6)


def test_written_voxels_come_back(tmp_path, betas, rows, selection):
    built = build(betas, rows, selection)
    voxels.write_voxels(tmp_path / "subj01.h5", built)
    read = voxels.read_voxels(tmp_path / "subj01.h5")
    assert (read.subject, read.selection.volume_shape) == ("subj01", (2, 3, 4))
    for part in ("selection", "training", "test", "statistics"):
        expected, found = getattr(built, part), getattr(read, part)
        for field in dataclasses.fields(expected):
            np.testing.assert_array_equal(getattr(found, field.name), getattr(expected, field.name))


# --- from the files of a bucket ------------------------------------------------------------------


def read_tiny(tiny_bucket, subject):
    regions = region_paths(tiny_bucket, subject)
    chosen = voxels.read_selection(
        path_to_mask=regions["nsdgeneral"],
        path_to_areas=regions["areas"],
        path_to_ncsnr=regions["ncsnr"],
    )
    trials = design.join_trials(
        path_to_design=tiny_bucket / files.DESIGN,
        path_to_responses=tiny_bucket / files.responses(subject),
        subject=subject,
    )
    return chosen, trials


@pytest.mark.parametrize("subject", ["subj01", "subj02"])
def test_planted_signal_is_found_at_its_voxels_and_images(tiny_bucket, subject):
    chosen, trials = read_tiny(tiny_bucket, subject)
    betas, rows = voxels.read_betas(
        betas_paths(tiny_bucket, subject)[::-1], selection=chosen, trials=trials
    )
    built = build(betas, rows, chosen)
    with h5py.File(tiny_bucket / files.ground_truth(subject)) as file:
        order = np.argsort(file["index"][()])
        np.testing.assert_array_equal(file["index"][()][order], chosen.index)
        known, signal = file["id"][()], file["signal"][()][:, order].astype(float)
        ceiling = file["tuning/noise_ceiling"][()][order]
        np.testing.assert_array_equal(file["tuning/label"][()][order], chosen.roi)
    ids, means = built.averaged("training")
    planted = signal[np.searchsorted(known, ids)]
    strong = ceiling > 40
    assert correlation(means, planted)[strong].mean() > 0.6
    assert abs(correlation(means, planted[::-1])[strong].mean()) < 0.15


def correlation(first, second):
    first, second = first - first.mean(axis=0), second - second.mean(axis=0)
    scale = np.sqrt((first**2).sum(axis=0) * (second**2).sum(axis=0))
    return (first * second).sum(axis=0) / np.maximum(scale, 1e-9)


def test_order_of_the_files_does_not_matter(tiny_bucket):
    chosen, trials = read_tiny(tiny_bucket, "subj01")
    paths = betas_paths(tiny_bucket, "subj01")
    forward, rows = voxels.read_betas(paths, selection=chosen, trials=trials)
    backward, same = voxels.read_betas(paths[::-1], selection=chosen, trials=trials)
    np.testing.assert_array_equal(forward, backward)
    pd.testing.assert_frame_equal(rows, same)


def test_a_session_that_the_design_does_not_know_is_named(tiny_bucket):
    chosen, trials = read_tiny(tiny_bucket, "subj01")
    paths = betas_paths(tiny_bucket, "subj01")
    with pytest.raises(DataError) as error:
        voxels.read_betas(paths, selection=chosen, trials=trials[trials["session"] < 3])
    assert str(error.value) == (
        f"{paths[2]} is session 3, of which the subject's responses.tsv knows no trial; "
        "lower the subject's number in nsd.sessions."
    )


def test_more_trials_than_the_design_knows_are_refused(tiny_bucket):
    chosen, trials = read_tiny(tiny_bucket, "subj01")
    paths = betas_paths(tiny_bucket, "subj01")[:1]
    with pytest.raises(DataError) as error:
        voxels.read_betas(paths, selection=chosen, trials=trials.iloc[1:])
    assert str(error.value) == (
        f"{paths[0]} holds 40 trials where the design knows 39; fetch it or the subject's "
        "responses.tsv again."
    )


def test_masks_of_different_subjects_are_refused(tiny_bucket):
    first, second = (region_paths(tiny_bucket, name) for name in ("subj01", "subj02"))
    with pytest.raises(DataError, match="expected one shape: fetch them again"):
        voxels.read_selection(
            path_to_mask=first["nsdgeneral"],
            path_to_areas=second["areas"],
            path_to_ncsnr=first["ncsnr"],
        )
