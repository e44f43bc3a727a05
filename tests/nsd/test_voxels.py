"""Splitting, writing and averaging, against loops over single values."""

import dataclasses

import numpy as np
import pytest

from neuraldiffuser.errors import DataError
from neuraldiffuser.nsd import voxels
from neuraldiffuser.nsd.normalisation import INVALID_VOXELS, NORMALISATIONS, measure


@pytest.fixture
def prepare(tmp_path, recordings, selection):
    """Writes the recordings with some settings and reads them back."""

    def write(*, normalisation="session_training", invalid_voxels="missing"):
        statistics = measure(recordings, normalisation=normalisation)
        voxels.write_voxels(
            tmp_path / "subj01.h5",
            subject="subj01",
            recordings=recordings,
            selection=selection,
            statistics=statistics,
            keep=INVALID_VOXELS[invalid_voxels](statistics, "subj01"),
        )
        return voxels.read_voxels(tmp_path / "subj01.h5")

    return write


def test_shared_trials_are_the_test_and_no_others(prepare, trials):
    built = prepare()
    assert set(built.test.id % 3) == {0}
    assert not set(built.training.id) & set(built.test.id)
    assert len(built.training.id) + len(built.test.id) == len(trials)


def test_every_row_is_the_trial_that_its_identity_names(prepare, recordings):
    built = prepare(normalisation="none")
    for split in (built.training, built.test):
        assert split.betas.dtype == np.float32
        for betas, *names in zip(split.betas, split.session, split.id, split.repeat, strict=True):
            trials = recordings.trials
            row = trials.index[(trials[["session", "id", "repeat"]] == names).all(axis=1)]
            stored = np.concatenate(recordings.sessions)[row[0]]
            np.testing.assert_allclose(betas[:2], stored[:2] / 300, rtol=1e-6)


def test_what_is_known_of_the_voxels_and_sessions_comes_back(prepare, recordings, selection):
    built = prepare()
    assert (built.subject, built.selection.volume_shape) == ("subj01", (2, 3, 4))
    assert (built.missing_sessions, built.dropped_voxels) == ((3,), 0)
    for part, expected in (
        (built.selection, selection),
        (built.statistics, measure(recordings, normalisation="session_training")),
    ):
        for field in dataclasses.fields(expected):
            found = getattr(part, field.name)
            np.testing.assert_array_equal(found, getattr(expected, field.name))


def test_dropped_voxels_leave_every_array(prepare):
    kept, built = prepare(), prepare(invalid_voxels="dropped")
    assert built.dropped_voxels == 3
    assert built.selection.index.tolist() == [1, 4]
    assert built.selection.roi.tolist() == [0, 1]
    assert built.selection.noise_ceiling.tolist() == [10, 20]
    assert built.training.betas.shape[1] == built.statistics.mean.shape[1] == 2
    np.testing.assert_array_equal(built.test.betas, kept.test.betas[:, :2])


@pytest.mark.parametrize("name", NORMALISATIONS)
@pytest.mark.parametrize("split", voxels.SPLITS)
def test_averages_count_the_trials_that_have_a_value(prepare, name, split):
    built = prepare(normalisation=name)
    rows = getattr(built, split)
    ids, means = built.averaged(split)
    assert ids.tolist() == sorted(set(rows.id))
    lost = {(2, 2), (4, 3), *((session, 4) for session in (1, 2, 4))}
    for number, mean in zip(ids, means, strict=True):
        for voxel in range(5):
            values = [
                float(betas[voxel])
                for betas, image, session in zip(rows.betas, rows.id, rows.session, strict=True)
                if image == number and (session, voxel) not in lost
            ]
            expected = sum(values) / len(values) if values else 0
            assert mean[voxel] == pytest.approx(expected, abs=1e-5)


def test_a_missing_trial_pulls_no_average_towards_zero(prepare):
    """The mistake that this guards against: dividing by three where two repeats have a value."""
    built = prepare(normalisation="none")
    ids, means = built.averaged("training")
    missed = built.training.id[built.training.session == 2]
    once = [number for number in np.unique(missed) if (missed == number).sum() == 1]
    for number in once:
        here = (built.training.id == number) & (built.training.session != 2)
        assert means[ids == number, 2] == pytest.approx(built.training.betas[here, 2].mean())
        assert abs(built.training.betas[built.training.id == number, 2].mean()) < abs(
            means[ids == number, 2]
        )


def test_padding_counts_the_first_of_two_repeats_twice(prepare):
    built = prepare()
    two = np.flatnonzero((built.test.id == 6) & (built.test.repeat > 0))
    pair = voxels.Trials(
        **{name: getattr(built.test, name)[two] for name in ("betas", "id", "repeat", "session")},
        statistics=built.statistics,
    )
    first, second = pair.betas[np.argsort(pair.repeat), 0].astype(float)
    assert pair.averaged("padded")[1][0, 0] == pytest.approx((2 * first + second) / 3)
    assert pair.averaged("skipped")[1][0, 0] == pytest.approx((first + second) / 2)


def test_betas_are_mapped_and_the_file_is_never_changed(prepare, tmp_path):
    built = prepare()
    assert isinstance(built.training.betas, np.memmap)
    before = (tmp_path / "subj01.h5").read_bytes()
    built.training.betas[:] = 0
    assert (tmp_path / "subj01.h5").read_bytes() == before


def test_a_truncated_file_is_refused(prepare, tmp_path):
    prepare()
    path = tmp_path / "subj01.h5"
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(DataError, match="subj01.h5 is truncated or is no HDF5 file; delete it"):
        voxels.read_voxels(path)
