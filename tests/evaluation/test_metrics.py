"""The registry of metrics."""

import subprocess
import sys

from neuraldiffuser.config.evaluation import NSD_JUDGES, Conventions
from neuraldiffuser.evaluation.metrics import (
    METRICS,
    brain_metric,
    choose_names,
    is_detail,
    list_ensembled,
    metrics_of,
)


def test_every_metric_says_what_it_is_and_which_way_is_better():
    for name, metric in metrics_of(NSD_JUDGES).items():
        assert metric.name == name
        assert metric.label and metric.unit
        assert metric.direction in ("higher", "lower")


def test_distances_alone_are_better_when_lower():
    lower = {name for name, m in metrics_of(NSD_JUDGES).items() if m.direction == "lower"}
    assert lower == {"effnet", "swav", "lpips", "kid", "fid"}


def test_judges_join_the_fixed_metrics():
    judges = {judge.name for judge in NSD_JUDGES}
    plain = {name for name, metric in metrics_of(NSD_JUDGES).items() if not metric.is_detail}
    assert plain == {name for name in METRICS if not is_detail(name)} | judges


def test_every_convention_of_a_metric_stands_beside_it():
    metrics, chosen = metrics_of(NSD_JUDGES), Conventions(identification="mindeye", ssim="columns")
    names = choose_names(NSD_JUDGES, chosen)
    assert names["alexnet2"] == "alexnet2_mindeye"
    assert names["ssim"] == "ssim_columns"
    assert names["brain_correlation_V1"] == "brain_correlation_V1_voxels_per_image"
    assert "effnet" not in names
    judged = {name for name in names if name.endswith("judged")}  # beside those on all voxels
    assert not any(map(is_detail, names.keys() - judged)) and all(map(is_detail, names.values()))
    for plain, name in names.items():
        assert metrics[name].is_detail
        for key in ("unit", "direction", "kind", "level"):
            assert getattr(metrics[name], key) == getattr(metrics[plain], key)


def test_what_one_repeat_cannot_be_compared_in():
    judges = NSD_JUDGES[3:5]  # CLIP identifies, EfficientNet is a distance
    assert list_ensembled(judges, "mindeye") == ["clip_takagi"]
    assert list_ensembled(judges, "takagi") == ["clip", "clip_takagi"]


def test_brain_metrics_are_named_by_area_direction_and_scale():
    assert brain_metric("V1") == "brain_correlation_V1"
    name = brain_metric("hV4", "images_per_voxel", of_ceiling=True)
    assert name == "brain_correlation_hV4_images_per_voxel_of_ceiling"
    assert METRICS[name].unit == "share of the ceiling"


def test_importing_the_registry_loads_nothing_heavy():
    program = (
        "import sys, neuraldiffuser.evaluation.metrics;"
        "print([name for name in ('torch', 'pandas', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
