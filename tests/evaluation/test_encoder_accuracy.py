import numpy as np
import pytest

from neuraldiffuser.config.evaluation import BootstrapSettings
from neuraldiffuser.evaluation.brain import Ceilings
from neuraldiffuser.evaluation.encoder_accuracy import ACCURACY, summarise_accuracy

BOOTSTRAP = BootstrapSettings(draws=500)
CORRELATION = np.array([0.5, 0.1, 0.3, 0.2])
PERCENT = np.array([36.0, 4.0, 49.0, 25.0])
AREAS = {
    "V1": np.array([True, True, True, False]),
    "unreliable": np.array([False, True, False, False]),
    "higher_visual": np.array([False, False, False, True]),
}


def summarise(correlation=CORRELATION, *, percent=PERCENT, trials=(3, 3, 3), areas=AREAS):
    ceilings = Ceilings(percent=percent, trials=np.array(trials))
    found = summarise_accuracy(correlation, ceilings=ceilings, areas=areas, bootstrap=BOOTSTRAP)
    return found.set_index("area")


def test_all_voxels_count_and_reliable_ones_stand_beside():
    table = summarise()
    assert table.index.tolist() == list(AREAS)
    assert table["voxels"].tolist() == [3, 1, 1]
    np.testing.assert_allclose(table["correlation"], [0.3, 0.1, 0.2])
    np.testing.assert_allclose(table["ceiling"], [0.5, 0.2, 0.5])
    np.testing.assert_allclose(table["fraction"], [0.6, 0.5, 0.4])
    assert table["reliable_voxels"].tolist() == [2, 0, 1]
    np.testing.assert_allclose(table["reliable_fraction"], [0.4 / 0.65, np.nan, 0.4])


def test_fewer_trials_lower_the_ceiling():
    # ncsnr^2 = .36 / .64 / 3; a single trial explains ncsnr^2 / (ncsnr^2 + 1).
    ratio = 0.36 / 0.64 / 3
    single = summarise(trials=(1, 1))["ceiling"]["V1"]
    others = [r / (r + 1) for r in (0.04 / 0.96 / 3, 0.49 / 0.51 / 3)]
    assert single == pytest.approx(np.mean(np.sqrt([ratio / (ratio + 1), *others])))


def test_the_interval_is_over_voxels_and_covers_the_truth():
    """Voxels whose model reaches 80 % of the ceiling on average, drawn a hundred times."""
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(100):
        percent = generator.uniform(10, 60, 200)
        correlation = np.sqrt(percent / 100) * 0.8 + generator.normal(size=200) * 0.1
        everywhere = {"V1": np.ones(200, bool)}
        row = summarise(correlation, percent=percent, areas=everywhere).loc["V1"]
        covered += row["low"] <= 0.8 <= row["high"]
    assert 88 <= covered <= 99


def test_areas_without_voxels_or_signal_are_left_out():
    areas = {"V1": np.zeros(4, bool), "V2": np.array([True, False, False, False])}
    table = summarise(percent=np.array([0.0, 4.0, 49.0, 25.0]), areas=areas)
    assert table.empty
    assert list(table.reset_index().columns) == ACCURACY
