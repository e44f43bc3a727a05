"""What every metric is called, its unit and its direction; imports nothing heavy."""

from collections.abc import Iterable
from dataclasses import dataclass

from neuraldiffuser.config.evaluation import Judge

KINDS = ("pixels", "network", "repeats", "brain", "set")


@dataclass(frozen=True)
class Metric:
    """One metric: its heading in tables (the paper's where it has one), unit and direction."""

    name: str
    label: str
    unit: str
    higher_is_better: bool
    kind: str  # one of KINDS
    level: str  # early (details), middle, late (content) or none

    @property
    def direction(self) -> str:
        """Which way is better: "higher" or "lower"."""
        return "higher" if self.higher_is_better else "lower"


AREAS = {
    "V1": ("V1", "early"),
    "V2": ("V2", "early"),
    "V3": ("V3", "early"),
    "hV4": ("V4", "middle"),
    "higher_visual": ("Higher Vis.", "late"),
    "nsdgeneral": ("Whole Vis.", "none"),
}
DIRECTIONS = {
    "voxels_per_image": "over voxels, for each image",
    "images_per_voxel": "over images, for each voxel",
}
# measure of a judge: (unit, higher is better, kind)
MEASURES = {
    "identification": ("share identified", True, "network"),
    "distance": ("1 - correlation", False, "network"),
    "frechet_distance": ("squared distance", False, "set"),
    "inception_score": ("exponential of nats", True, "set"),
    "kernel_distance": ("squared distance", False, "set"),
}
ENSEMBLE = "takagi"  # the identification for which all repeats of an image act together
SET_MEASURES = ("frechet_distance", "inception_score")  # one number, not one per image


def list_ensembled(judges: Iterable[Judge], identification: str) -> list[str]:
    """The metrics for which all repeats of an image act together: one repeat is not comparable."""
    if identification != ENSEMBLE:
        return []
    return [judge.name for judge in judges if judge.measure == "identification"]


def brain_metric(area: str, direction: str = "", *, of_ceiling: bool = False) -> str:
    """Name of a brain correlation; without a direction, of the one the configuration chooses."""
    parts = ["brain_correlation", area, direction, "of_ceiling" if of_ceiling else ""]
    return "_".join(part for part in parts if part)


def _describe_brain_metrics() -> Iterable[Metric]:
    for area, (label, level) in AREAS.items():
        yield Metric(brain_metric(area), label, "correlation", True, "brain", level)
        for direction, words in DIRECTIONS.items():
            name = brain_metric(area, direction)
            yield Metric(name, f"{label} {words}", "correlation", True, "brain", level)
            name = brain_metric(area, direction, of_ceiling=True)
            heading = f"{label} {words}, of the noise ceiling"
            yield Metric(name, heading, "share of the ceiling", True, "brain", level)


METRICS = {
    metric.name: metric
    for metric in (
        Metric("pixcorr", "PixCorr", "correlation", True, "pixels", "early"),
        Metric("ssim", "SSIM", "index", True, "pixels", "early"),
        Metric("consistency", "Consistency", "correlation", True, "repeats", "early"),
        *_describe_brain_metrics(),
    )
}


def metrics_of(judges: Iterable[Judge]) -> dict[str, Metric]:
    """All metrics of an experiment by name, in the order of tables: by kind, then as configured."""
    judged = [
        Metric(judge.name, judge.label, *MEASURES[judge.measure], judge.level) for judge in judges
    ]
    ordered = sorted([*METRICS.values(), *judged], key=lambda metric: KINDS.index(metric.kind))
    return {metric.name: metric for metric in ordered}
