"""The data card against counts made one by one."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest
from describe_voxels import describe_voxels
from planted_voxels import plant_voxels

from neuraldiffuser import storage
from neuraldiffuser.nsd.data_card import describe
from neuraldiffuser.nsd.selection import Selection

LABELS = [0, 1, 3, 7, 7]
CEILINGS = [10, 20, 30, 40, 0]


@pytest.fixture
def selection():
    return Selection(
        volume_shape=(2, 3, 4),
        index=np.array([1, 4, 9, 12, 20]),
        roi=np.array(LABELS, np.uint8),
        noise_ceiling=np.array(CEILINGS, np.float32),
    )


@pytest.fixture
def valid():
    """Voxel 2 has no data in session 2; voxel 4 has none in sessions 1 and 3."""
    table = np.ones((3, 5), bool)
    table[1, 2] = table[0, 4] = table[2, 4] = False
    return table


@pytest.fixture
def card(selection, valid):
    rng = np.random.default_rng(0)
    first = plant_voxels(
        training=rng.integers(0, 60, 90), test=np.arange(4), selection=selection, valid=valid
    )
    second = plant_voxels(
        training=np.repeat(np.arange(7), 3),
        test=np.array([9, 8, 9, 8, 9, 7]),
        selection=selection,
        valid=valid[:1],
        subject="subj02",
        missing_sessions=(2, 5),
        dropped_voxels=6,
    )
    return describe([first, second])


def test_every_region_has_its_voxels_and_noise_ceilings(card):
    regions = card.regions.set_index(["subject", "region"])
    found = regions.loc["subj01", "voxels"].to_dict()
    assert found == {"nsdgeneral": 5, "V1": 1, "V2": 1, "V4": 2, "higher": 1}
    whole = regions.loc["subj01", "nsdgeneral"]
    assert whole["noise_ceiling"] == pytest.approx(sum(CEILINGS) / 5)
    assert whole["noise_ceiling_50"] == pytest.approx(sorted(CEILINGS)[2])
    assert regions.loc[("subj01", "V4"), "noise_ceiling"] == pytest.approx(20)


def test_a_voxel_without_data_counts_once_and_in_every_session_without(card, valid):
    regions = card.regions[card.regions["subject"] == "subj01"].set_index("region")
    for region, labels in {"V1": [1], "V2": [3], "V4": [7], "higher": [0]}.items():
        lacking = [
            [bool(valid[session, voxel]) for session in range(3)].count(False)
            for voxel in range(5)
            if LABELS[voxel] in labels
        ]
        assert regions.loc[region, "invalid_voxel_sessions"] == sum(lacking)
        assert regions.loc[region, "invalid_voxels"] == sum(map(bool, lacking))
    assert regions.loc["nsdgeneral", ["invalid_voxels", "invalid_voxel_sessions"]].tolist() == [
        2,
        3,
    ]


def test_repeats_are_those_that_exist(card):
    training = np.random.default_rng(0).integers(0, 60, 90).tolist()
    times = Counter(Counter(training).values())
    found = card.trials.set_index(["subject", "split"])
    row = found.loc["subj01", "training"]
    assert (row["trials"], row["images"]) == (90, len(set(training)))
    assert row[["shown_once", "shown_twice", "shown_three_times"]].tolist() == [
        times[1],
        times[2],
        times[3],
    ]
    assert found.loc[("subj02", "test"), "trials":].tolist() == [6, 3, 1, 1, 1]


def test_sessions_that_are_missing_are_named(card, tmp_path):
    storage.write_table(tmp_path / "subjects.csv", card.subjects)
    subjects = storage.read_table(tmp_path / "subjects.csv").set_index("subject")
    assert subjects["sessions"].to_dict() == {"subj01": 3, "subj02": 1}
    assert subjects["missing_sessions"].to_dict() == {"subj01": "none", "subj02": "2, 5"}
    assert subjects["dropped_voxels"].to_dict() == {"subj01": 0, "subj02": 6}
    assert set(subjects["published_counts"]) == {"not NSD's data: nothing to compare"}


def test_the_script_writes_all_three_tables(selection, valid, tmp_path, monkeypatch):
    planted = plant_voxels(
        training=np.arange(9), test=np.arange(4), selection=selection, valid=valid
    )
    monkeypatch.setattr("describe_voxels.read_voxels", {"subj01.h5": planted}.get)
    paths = {name: tmp_path / f"{name}.csv" for name in ("subjects", "regions", "trials")}
    describe_voxels(paths_to_voxels=["subj01.h5"], paths_to_tables=paths)
    written = [len(pd.read_csv(path)) for path in paths.values()]
    assert written == [1, 5, 2]
