"""Effects of switches: planted differences are told, chance is not, sameness is said."""

import numpy as np
import pandas as pd
import pytest

from neuraldiffuser.config.base import merge, nest
from neuraldiffuser.config.evaluation import BootstrapSettings
from neuraldiffuser.evaluation.switches import compare_worlds, describe_effect

BOOTSTRAP = BootstrapSettings(draws=2000, seed=3)
IDS = pd.Index(range(100, 160), name="id")


def draw_world(seed=0, **shifts):
    """Sixty images with five metrics; those named are shifted by a known amount."""
    rng = np.random.default_rng(seed)
    names = ["PixCorr", "SSIM", "A", "B", "C"]
    values = pd.DataFrame(rng.normal(size=(60, 5)), index=IDS, columns=names)
    return {
        "guided/subj01": values.assign(**{name: values[name] + k for name, k in shifts.items()})
    }


def describe(changed, baseline):
    found = compare_worlds(changed, baseline, BOOTSTRAP)
    return describe_effect(found, variant="guided", level=BOOTSTRAP.level)


def noisy(world, deviation=1.0):
    """The same world with noise of mean zero in every metric."""
    rng = np.random.default_rng(7)
    (name, values), *_ = world.items()
    noise = rng.normal(size=values.shape) * deviation
    return {name: values + noise - noise.mean(axis=0)}


def test_differences_are_paired_by_image():
    """Images differ by 1, the shift by 0.1: pairing finds it exactly, in any order of rows."""
    changed = {name: table.iloc[::-1] for name, table in draw_world(A=0.1).items()}
    found = compare_worlds(changed, draw_world(), BOOTSTRAP).set_index("metric")
    assert found.loc["A", ["difference", "low", "high"]].tolist() == pytest.approx([0.1] * 3)
    assert found.loc["B", "difference"] == 0
    assert (found["n"] == 60).all()


def test_the_clearest_differences_are_told_beside_pixcorr():
    told = describe(noisy(draw_world(A=5.0, B=-3.0, C=0.9), 0.5), draw_world())
    assert told.split("; ")[0].startswith("guided PixCorr ")
    assert [part.split(" [")[0] for part in told.split("; ")[1:]] == [
        "guided A +5.000",
        "guided B -3.000",
    ]


def test_what_chance_explains_is_not_told():
    told = describe(noisy(draw_world()), draw_world())
    assert told.endswith("; no other difference beyond chance")
    assert told.startswith("guided PixCorr +0.000 [")


def test_a_difference_is_told_where_pixcorr_is_the_same():
    """The other metrics are equal in every image, so that they are no tests beside it."""
    changed = {name: values.drop(columns="SSIM") for name, values in draw_world(A=-0.2).items()}
    told = describe(changed, draw_world())
    assert told == "guided PixCorr the same; guided A -0.200 [-0.200, -0.200]"
    baseline = draw_world()
    drifted = {
        name: values.drop(columns="SSIM").assign(PixCorr=baseline[name]["PixCorr"])
        for name, values in noisy(baseline).items()
    }
    told = describe(drifted, baseline)
    assert told.startswith("guided PixCorr the same; guided ")
    assert told.endswith("], not beyond chance among 3 metrics")


def test_small_differences_keep_a_digit():
    told = describe(noisy(draw_world(A=2e-4), 1e-5), draw_world())
    assert "guided A +0.00020 [+0.000" in told


def test_subjects_are_averaged_image_by_image():
    (first,) = draw_world().values()
    baseline = {"guided/subj01": first, "guided/subj02": first}
    changed = {"guided/subj01": first + 0.1, "guided/subj02": first + 0.3}
    found = compare_worlds(changed, baseline, BOOTSTRAP)
    assert found["difference"].tolist() == pytest.approx([0.2] * 5)
    assert (found["n"] == 60).all()


def test_equal_values_say_so():
    assert describe(draw_world(), draw_world()) == "none: the same values"


def test_an_overlay_sets_one_key_and_leaves_its_neighbours():
    overlay = nest("voxels.normalisation", "none")
    assert overlay == {"voxels": {"normalisation": "none"}}
    first = {"voxels": {"normalisation": "a", "other": 1}, "seed": 2}
    assert merge(first, overlay) == {"voxels": {"normalisation": "none", "other": 1}, "seed": 2}
    assert first["voxels"]["normalisation"] == "a"
