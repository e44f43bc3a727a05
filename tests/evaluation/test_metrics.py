"""The registry of metrics."""

import subprocess
import sys

from neuraldiffuser.config.evaluation import NSD_JUDGES
from neuraldiffuser.evaluation.metrics import METRICS, brain_metric, metrics_of


def test_every_metric_says_what_it_is_and_which_way_is_better():
    for name, metric in metrics_of(NSD_JUDGES).items():
        assert metric.name == name
        assert metric.label and metric.unit
        assert metric.direction in ("higher", "lower")


def test_distances_alone_are_better_when_lower():
    lower = {name for name, m in metrics_of(NSD_JUDGES).items() if m.direction == "lower"}
    assert lower == {"effnet", "swav", "kid", "fid"}


def test_judges_join_the_fixed_metrics():
    assert set(metrics_of(NSD_JUDGES)) == {*METRICS, *(judge.name for judge in NSD_JUDGES)}


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
