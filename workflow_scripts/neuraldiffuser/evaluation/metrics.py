"""What every metric is called, its unit and its direction; imports nothing heavy."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import get_args

from neuraldiffuser.config.evaluation import Conventions, Judge

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
    is_detail: bool = False  # one of several conventions, kept beside the one that tables show
    is_of_images: bool = True  # else an image's value has a meaning in the mean of a set only

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
EARLY_AREAS = tuple(area for area, (_, level) in AREAS.items() if level == "early")
IDENTIFICATION = "identification"
OVER_IMAGES = "images_per_voxel"
DIRECTIONS = {
    "voxels_per_image": "over voxels, for each image",
    OVER_IMAGES: "over images, for each voxel",
}
JUDGED_WORDS = {False: "", True: " (voxels that guide nothing)"}
# measure of a judge: (unit, higher is better, kind)
MEASURES = {
    "identification": ("share identified", True, "network"),
    "distance": ("1 - correlation", False, "network"),
    "perceptual": ("perceptual distance", False, "network"),
    "frechet_distance": ("squared distance", False, "set"),
    "inception_score": ("exponential of nats", True, "set"),
    "kernel_distance": ("squared distance", False, "set"),
}
# By the key of the configuration that chooses one: the conventions, all of which are measured.
CONVENTIONS = {name: get_args(field.annotation) for name, field in Conventions.model_fields.items()}
CONVENTION_WORDS = {"2d": "2-D", "mindeye": "MindEye's", "takagi": "Takagi's"}
ENSEMBLE = "takagi"  # the identification for which all repeats of an image act together
SET_MEASURES = ("frechet_distance", "inception_score")  # one number, not one per image


def detailed(plain: str, convention: str) -> str:
    """Name of a metric by one of its conventions: ``alexnet2_takagi``, ``ssim_columns``."""
    return f"{plain}_{convention}"


def choose_names(judges: Iterable[Judge], conventions: Conventions) -> dict[str, str]:
    """The metrics that have conventions: plain name -> name of the one that tables show."""
    return {
        "ssim": detailed("ssim", conventions.ssim),
        **{
            brain_metric(area, judged=judged): brain_metric(
                area, conventions.brain_correlation, judged=judged
            )
            for area in AREAS
            for judged in (False, True)
        },
        **{
            judge.name: detailed(judge.name, conventions.identification)
            for judge in judges
            if judge.measure == IDENTIFICATION
        },
    }


def list_ensembled(judges: Iterable[Judge], identification: str) -> list[str]:
    """The metrics for which all repeats of an image act together: one repeat is not comparable."""
    identified = [judge.name for judge in judges if judge.measure == IDENTIFICATION]
    plain = identified if identification == ENSEMBLE else []
    return [*plain, *(detailed(name, ENSEMBLE) for name in identified)]


def is_detail(name: str) -> bool:
    """Whether a metric is one of several conventions, beside the one under the plain name."""
    if name in METRICS:
        return METRICS[name].is_detail
    return name.endswith(tuple(detailed("", each) for each in CONVENTIONS["identification"]))


def is_of_brain(name: str) -> bool:
    """Whether a metric is a brain correlation."""
    return name in METRICS and METRICS[name].kind == "brain"


def brain_metric(
    area: str, direction: str = "", *, of_ceiling: bool = False, judged: bool = False
) -> str:
    """Name of a brain correlation; without a direction, of the one the configuration chooses.

    ``judged``: over the voxels alone that guide no variant.
    """
    suffixes = ["of_ceiling" if of_ceiling else "", "judged" if judged else ""]
    return "_".join(part for part in ["brain_correlation", area, direction, *suffixes] if part)


def _describe_brain_metrics() -> Iterable[Metric]:
    for judged, words in JUDGED_WORDS.items():
        for area, (label, level) in AREAS.items():
            plain = Metric(
                name=brain_metric(area, judged=judged),
                label=f"{label}{words}",
                unit="correlation",
                higher_is_better=True,
                kind="brain",
                level=level,
                is_detail=judged,
            )
            yield plain
            for direction in DIRECTIONS:
                yield from _describe_direction(plain, area, direction, judged=judged)


def _describe_direction(
    plain: Metric, area: str, direction: str, *, judged: bool
) -> Iterable[Metric]:
    """A brain correlation in one direction, and as a share of the noise ceiling."""
    label = f"{plain.label} {DIRECTIONS[direction]}"
    yield replace(
        plain,
        name=brain_metric(area, direction, judged=judged),
        label=label,
        is_detail=True,
        is_of_images=direction != OVER_IMAGES,
    )
    yield replace(
        plain,
        name=brain_metric(area, direction, of_ceiling=True, judged=judged),
        label=f"{label}, of the noise ceiling",
        unit="share of the ceiling",
        is_detail=True,
        is_of_images=direction != OVER_IMAGES,
    )


def _with_conventions(plain: Metric, conventions: Iterable[str]) -> Iterable[Metric]:
    """A metric, and by each of its conventions."""
    yield plain
    for convention in conventions:
        name, words = detailed(plain.name, convention), CONVENTION_WORDS.get(convention, convention)
        yield replace(plain, name=name, label=f"{plain.label} ({words})", is_detail=True)


METRICS = {
    metric.name: metric
    for metric in (
        Metric("pixcorr", "PixCorr", "correlation", True, "pixels", "early"),
        *_with_conventions(
            Metric("ssim", "SSIM", "index", True, "pixels", "early"), CONVENTIONS["ssim"]
        ),
        Metric("consistency", "Consistency", "correlation", True, "repeats", "early"),
        *_describe_brain_metrics(),
    )
}


def metrics_of(judges: Iterable[Judge]) -> dict[str, Metric]:
    """All metrics of an experiment by name, in the order of tables: by kind, then as configured."""
    judged = [metric for judge in judges for metric in _describe_judge(judge)]
    ordered = sorted([*METRICS.values(), *judged], key=lambda metric: KINDS.index(metric.kind))
    return {metric.name: metric for metric in ordered}


def _describe_judge(judge: Judge) -> Iterable[Metric]:
    unit, higher_is_better, kind = MEASURES[judge.measure]
    plain = Metric(
        name=judge.name,
        label=judge.label,
        unit=unit,
        higher_is_better=higher_is_better,
        kind=kind,
        level=judge.level,
        is_of_images=kind != "set",
    )
    return _with_conventions(plain, CONVENTIONS.get(judge.measure, ()))
