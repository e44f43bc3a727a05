"""Every convention on a few voxels; ``test_agreement`` compares them all on a bucket."""

from dataclasses import replace

import numpy as np
import pytest

from neuraldiffuser.errors import DataError
from neuraldiffuser.nsd import normalisation
from neuraldiffuser.nsd.normalisation import INVALID_VOXELS, NORMALISATIONS, measure, normalise

VALID = [[1, 1, 1, 1, 0], [1, 1, 0, 1, 0], [1, 1, 1, 0, 0]]


def normalise_all(recordings, name):
    """Normalised betas of all trials, (trials, voxels), in their order."""
    statistics = measure(recordings, normalisation=name)
    everything = np.arange(recordings.sessions[0].shape[1])
    parts = []
    for place, session in enumerate(recordings.numbers):
        shared = recordings.trials_of(session)["shared"].to_numpy()
        betas = recordings.betas(place, np.ones(len(shared), bool), everything)
        rows = np.empty_like(betas)
        for split, chosen in (("training", ~shared), ("test", shared)):
            rows[chosen] = normalise(betas[chosen], statistics, session=session, split=split)
        parts.append(rows)
    return np.concatenate(parts)


@pytest.mark.parametrize("name", NORMALISATIONS)
def test_a_voxel_that_is_constant_through_a_session_is_not_valid_and_zero_there(recordings, name):
    statistics = measure(recordings, normalisation=name)
    np.testing.assert_array_equal(statistics.valid, np.array(VALID, bool))
    rows = normalise_all(recordings, name)
    present = statistics.valid[statistics.places(recordings.trials["session"])]
    assert not rows[~present].any()
    assert rows[present].all()


@pytest.mark.parametrize("name", NORMALISATIONS)
def test_sessions_without_a_value_do_not_touch_the_others(recordings, name):
    """Voxel 2 as if session 2 had never been: its other sessions come out the same."""
    kept = recordings.trials["session"] != 2
    without = replace(
        recordings,
        sessions=[recordings.sessions[0], recordings.sessions[2]],
        trials=recordings.trials[kept].reset_index(drop=True),
    )
    expected, found = normalise_all(without, name), normalise_all(recordings, name)
    np.testing.assert_allclose(found[kept, 2], expected[:, 2], rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "groups"),
    [("global_training", [[1, 2, 4]]), ("session_training", [[1], [2], [4]])],
)
def test_training_trials_have_mean_zero_and_deviation_one(recordings, name, groups):
    rows, trials = normalise_all(recordings, name), recordings.trials
    for sessions in groups:
        chosen = ~trials["shared"] & trials["session"].isin(sessions)
        values = rows[chosen.to_numpy(), 0].astype(float)
        assert values.mean() == pytest.approx(0, abs=1e-6)
        assert values.std() == pytest.approx(1, abs=1e-6)


def test_averaged_training_images_have_mean_zero_and_sample_deviation_one(recordings):
    rows, trials = normalise_all(recordings, "averaged_training"), recordings.trials
    training = ~trials["shared"]
    means = [
        rows[(training & (trials["id"] == i)).to_numpy(), 1].mean() for i in range(24) if i % 3
    ]
    assert np.mean(means) == pytest.approx(0, abs=1e-6)
    assert np.std(means, ddof=1) == pytest.approx(1, abs=1e-6)


def test_the_first_release_standardises_each_split_by_itself(recordings):
    rows = normalise_all(recordings, "session_all_then_split").astype(float)
    trials = recordings.trials
    training = rows[~trials["shared"].to_numpy()]
    averaged = [rows[(trials["id"] == image).to_numpy()].mean(axis=0) for image in range(0, 24, 3)]
    for chosen in (training, np.array(averaged)):
        np.testing.assert_allclose(chosen.mean(axis=0)[:2], 0, atol=1e-6)
        np.testing.assert_allclose(chosen.std(axis=0)[:2], 1, atol=1e-6)


def test_none_keeps_percent_signal_change(recordings):
    stored = np.concatenate(recordings.sessions).astype(np.float32)
    rows = normalise_all(recordings, "none")
    np.testing.assert_array_equal(rows[:, :2], stored[:, :2] / 300)


def test_no_two_normalisations_agree(recordings):
    outputs = [normalise_all(recordings, name) for name in NORMALISATIONS]
    for number, first in enumerate(outputs):
        assert all(np.abs(first - other).max() > 1e-3 for other in outputs[:number])


@pytest.mark.parametrize("name", ["session_training", "global_training", "averaged_training"])
def test_test_trials_do_not_touch_the_statistics(recordings, name):
    shared = [recordings.trials_of(number)["shared"].to_numpy() for number in recordings.numbers]
    moved = [
        rows + 999 * test[:, None].astype(np.int16) * (rows.max(axis=0) != rows.min(axis=0))
        for rows, test in zip(recordings.sessions, shared, strict=True)
    ]
    before = measure(recordings, normalisation=name)
    after = measure(replace(recordings, sessions=moved), normalisation=name)
    np.testing.assert_array_equal(before.mean, after.mean)
    np.testing.assert_array_equal(before.std, after.std)


@pytest.mark.parametrize("name", NORMALISATIONS)
def test_the_size_of_a_block_changes_nothing(recordings, name, monkeypatch):
    whole = measure(recordings, normalisation=name)
    monkeypatch.setattr(normalisation, "VOXELS_AT_ONCE", 2)
    parts = measure(recordings, normalisation=name)
    for table in ("valid", "mean", "std", "test_mean", "test_std"):
        np.testing.assert_allclose(getattr(parts, table), getattr(whole, table), rtol=1e-12)


def test_extreme_values_do_not_pass_for_constant_ones(recordings):
    """The range of 16 bits does not fit into 16 bits."""
    extremes = [rows.copy() for rows in recordings.sessions]
    extremes[0][:, 4] = np.resize([-32768, 32767], len(extremes[0]))
    statistics = measure(replace(recordings, sessions=extremes), normalisation="none")
    assert statistics.valid[:, 4].tolist() == [True, False, False]


@pytest.mark.parametrize("name", ["session_training", "session_all_then_split"])
def test_a_voxel_that_only_test_trials_move_is_not_valid(recordings, name):
    trials, rows = recordings.trials_of(1), recordings.sessions[0].copy()
    rows[:, 0] = np.where(trials["shared"], rows[:, 0], 600)
    changed = replace(recordings, sessions=[rows], trials=trials)
    valid = measure(changed, normalisation=name).valid
    np.testing.assert_array_equal(valid, [[False, True, True, True, False]])
    assert not normalise_all(changed, name)[:, 0].any()


def test_a_session_without_training_trials_is_refused(recordings):
    trials = recordings.trials
    shared = trials.assign(shared=trials["shared"] | (trials["session"] == 4))
    with pytest.raises(DataError) as error:
        measure(replace(recordings, trials=shared), normalisation="session_training")
    assert str(error.value) == (
        "Session 4 has no training trial to normalise with; choose another voxels.normalisation, "
        "or use other sessions (nsd.sessions)."
    )


def test_invalid_voxels_stay_or_leave(recordings):
    statistics = measure(recordings, normalisation="session_training")
    keep = {name: INVALID_VOXELS[name](statistics, "subj01") for name in ("missing", "dropped")}
    assert keep["missing"].tolist() == [True] * 5
    assert keep["dropped"].tolist() == [True, True, False, False, False]


def test_invalid_voxels_are_refused_with_their_number(recordings):
    statistics = measure(recordings, normalisation="session_training")
    with pytest.raises(DataError) as error:
        INVALID_VOXELS["refused"](statistics, "subj01")
    assert str(error.value) == (
        "3 voxels of subj01 are zero or constant through a whole session, 1 among them; set "
        "voxels.invalid_voxels to missing or dropped."
    )
    sound = statistics.choose(np.array([True, True, False, False, False]))
    assert INVALID_VOXELS["refused"](sound, "subj01").all()


def test_nothing_is_left_where_every_voxel_is_dropped(recordings):
    statistics = measure(recordings, normalisation="session_training")
    lost = statistics.choose(np.arange(5) > 1)
    with pytest.raises(DataError, match="Every voxel of subj01 is constant through some session"):
        INVALID_VOXELS["dropped"](lost, "subj01")
