"""Normalisation against loops in float64, joining against the generator's ground truth."""

import dataclasses

import h5py
import numpy as np
import pandas as pd
import pytest
from tiny_bucket import betas_paths, region_paths

from neuraldiffuser.errors import DataError
from neuraldiffuser.nsd import design, files, voxels

SESSIONS = 3


def expected_statistics(name, betas, rows, session, voxel):
    """Mean and deviation of one session and voxel, written out."""
    trials = list(zip(betas[:, voxel].astype(float), rows.itertuples(index=False), strict=True))
    if name == "session_all":
        values = [value for value, row in trials if row.session == session]
    elif name == "session_training":
        values = [v for v, row in trials if row.session == session and not row.shared]
    elif name == "global_training":
        lost = {2: {2}, 4: {1, 2, 3}}.get(voxel, set())
        values = [v for v, row in trials if not row.shared and row.session not in lost]
    else:
        by_image = {}
        for value, row in trials:
            if not row.shared:
                by_image.setdefault(row.id, []).append(value)
        values = [sum(repeats) / len(repeats) for repeats in by_image.values()]
    count = max(len(values), 1)
    mean = sum(values) / count
    freedom = count - 1 if name == "averaged_training" else count
    return mean, (sum((value - mean) ** 2 for value in values) / freedom) ** 0.5


@pytest.mark.parametrize("name", voxels.NORMALISATIONS)
def test_statistics_and_betas_equal_a_loop(betas, rows, name):
    statistics = voxels.measure(betas, rows, normalisation=name)
    normalised = voxels.normalise(betas, rows, statistics)
    for session in range(1, SESSIONS + 1):
        here = (rows["session"] == session).to_numpy()
        for voxel in (0, 1, 2, 3):
            mean, deviation = expected_statistics(name, betas, rows, session, voxel)
            np.testing.assert_allclose(statistics.mean[session - 1, voxel], mean, rtol=1e-5)
            np.testing.assert_allclose(statistics.std[session - 1, voxel], deviation, rtol=1e-4)
            if (session, voxel) != (2, 2):
                expected = (betas[here, voxel].astype(float) - mean) / deviation
                np.testing.assert_allclose(normalised[here, voxel], expected, atol=1e-4)


def test_no_two_normalisations_agree(betas, rows):
    outputs = [
        voxels.normalise(betas, rows, voxels.measure(betas, rows, normalisation=name))
        for name in voxels.NORMALISATIONS
    ]
    for number, first in enumerate(outputs):
        assert all(np.abs(first - other).max() > 1e-3 for other in outputs[:number])


@pytest.mark.parametrize("name", ["session_training", "global_training", "averaged_training"])
def test_test_trials_do_not_touch_the_statistics(betas, rows, name):
    changed = betas + 5 * rows[["shared"]].to_numpy() * (betas != 0)
    before = voxels.measure(betas, rows, normalisation=name)
    after = voxels.measure(changed.astype(np.float32), rows, normalisation=name)
    np.testing.assert_array_equal(before.mean, after.mean)
    np.testing.assert_array_equal(before.std, after.std)


@pytest.mark.parametrize("name", voxels.NORMALISATIONS)
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


def test_a_session_without_training_trials_is_refused(betas, rows):
    shared = rows.assign(shared=rows["shared"] | (rows["session"] == 3))
    with pytest.raises(DataError) as error:
        voxels.measure(betas, shared, normalisation="session_training")
    assert str(error.value) == ("Session 3 has no training trial to normalise with; leave it out.")


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
