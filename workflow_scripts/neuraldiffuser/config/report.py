"""Settings of the tables, figures, contact sheets and the report."""

from collections.abc import Iterable
from typing import Literal

from pydantic import Field

from neuraldiffuser.config.base import Section
from neuraldiffuser.config.evaluation import Judge
from neuraldiffuser.config.reconstruction import Selection, Variant, name_maker


class Report(Section):
    """What the report shows; none of these keys changes a measurement."""

    title: str = Field("NeuralDiffuser on NSD", description="Name of the experiment, for people.")
    paper_values: Literal["comparable", "context"] = Field(
        "comparable",
        description=(
            "How the paper's values stand beside ours: comparable (the experiment is the paper's, "
            "differences are shown) or context (another world, never a difference)."
        ),
    )
    headline: str = Field(
        "guided", description="Variant that stands for the method in Tables 1 and 3."
    )
    baseline: str = Field("unguided", description="Variant without guidance, shown beside it.")
    controls: tuple[str, ...] = Field(
        ("wrong_image", "mean_feature"),
        description="Variants guided by features that do not belong to the image.",
    )
    upper_bounds: tuple[str, str] = Field(
        ("ground_truth_unguided", "ground_truth_guided"),
        description="Variants with ground-truth embeddings, without and with guidance (Fig. 9).",
    )
    metrics: tuple[str, ...] = Field(
        (), description="Metrics of the figures, in this order; empty means all that were measured."
    )
    example_images: int = Field(
        6, ge=2, le=24, description="Test images in the figures that show reconstructions."
    )
    rival_images: str | None = Field(
        None,
        description="Folder with other methods' reconstructions for Figures 6 and 7, as "
        "{method}/{73k id}.png, square; nobody may ship them with the code. Methods that Table 1 "
        "calls optimized, by its names, stand in Figure 7.",
    )
    tile_pixels: int = Field(
        192,
        ge=32,
        le=512,
        description="Width of an image in figures and contact sheets, in pixels.",
    )
    gallery_images: int = Field(
        100, ge=1, description="Test images, at most, on a contact sheet: the lowest ids."
    )
    gallery_variants: tuple[str, ...] = Field(
        (),
        description=(
            "Variants and selections of the gallery's page, among those that run; empty means all. "
            "Each takes a small file per test image and subject."
        ),
    )
    thumbnail_pixels: int = Field(
        128, ge=32, le=512, description="Width of an image in the gallery's page, in pixels."
    )
    enlarged_pixels: int = Field(
        256, ge=32, le=1024, description="Width of an image enlarged in that page, in pixels."
    )


class Presentation(Section):
    """What tables and figures read of a configuration, to name and order what they show."""

    report: Report
    subjects: tuple[str, ...]
    variants: dict[str, Variant]
    selections: dict[str, Selection] = {}
    run: tuple[str, ...]
    judges: tuple[Judge, ...]
    identification: str
    brain_correlation: str
    interval_level: float

    @property
    def comparable(self) -> bool:
        """Whether the paper's values may stand beside ours with a difference."""
        return self.report.paper_values == "comparable"

    def ran(self, names: Iterable[str]) -> list[str]:
        """Those of the variants ``names`` that were run, in their order."""
        return [name for name in names if name in self.run]

    def maker(self, name: str) -> str:
        """Name of the variant that made the images of a variant or selection."""
        return name_maker(name, self.selections)

    def brain_variants(self) -> list[str]:
        """Variants that were run and decode brains, in the order of the configuration."""
        return [name for name in self.run if self.variants[name].source == "brain"]
