"""Settings of the evaluation: networks, conventions of the metrics, statistics, findings."""

from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from neuraldiffuser.config.base import Section
from neuraldiffuser.config.models import NetworkSettings

Fraction = Annotated[float, Field(ge=0, le=1)]


class Judge(Section):
    """What is measured on one layer of a network."""

    name: str = Field(pattern=r"^[a-z0-9_]+$", description="Name of the metric in every table.")
    label: str = Field(description="Heading in tables and figures.")
    network: str = Field(description="Key of evaluation.networks.")
    node: str = Field(description="Key of that network's nodes.")
    measure: Literal[
        "identification",
        "distance",
        "perceptual",
        "kernel_distance",
        "frechet_distance",
        "inception_score",
    ] = Field(
        description="Two-way identification, 1 - Pearson r, squared distance (perceptual, of what "
        "LPIPS sees), or a quality of the whole set: its kernel distance to the stimuli, which "
        "suits few images too, Frechet distance, or Inception Score."
    )
    level: Literal["early", "middle", "late"] = Field(
        description="Whether the layer speaks for low-level details or for content."
    )
    minimum_images: int = Field(
        2, ge=2, description="With fewer test images the metric is reported as not computed."
    )


class ComparisonSettings(Section):
    """Two variants of the reconstruction that are compared image by image."""

    first: str = Field(description="Variant whose values are counted positively.")
    second: str = Field(description="Variant whose values are subtracted.")


class BootstrapSettings(Section):
    """Intervals and tests over images; repeats and subjects are averaged per image first."""

    draws: int = Field(10_000, ge=100, description="Resamples of the images, and random signs.")
    level: float = Field(0.95, gt=0, lt=1, description="Share of the resamples in an interval.")
    seed: int = Field(0, ge=0, description="Seed of the resamples and of the signs.")


class RetrievalSettings(Section):
    """Top-1 retrieval among random candidates (paper, section 5.3), and among all."""

    candidates: int = Field(
        300,
        ge=2,
        description="Images in a draw, the right one among them (paper: 300); where there are "
        "fewer, all of them. Retrieval among all images is always measured besides.",
    )
    draws: int = Field(30, ge=1, description="Random draws of candidates (released code of peers).")
    vote: Literal["majority", "sum"] = Field(
        "majority",
        description="How the guidance layers decide together: majority counts each layer's first "
        "choice and lets the summed similarities break ties; sum takes the largest sum. The paper "
        "says voting and leaves the rule open.",
    )
    seed: int = Field(0, ge=0, description="Seed of the draws.")


class RetrievalMeasure(Section):
    """One of the accuracies of retrieval by which decoders and their controls are compared."""

    direction: Literal["image", "brain", "both"] = Field(
        "both", description="Images by brains, brains by images, or the mean of both."
    )
    output: Literal["projection", "embedding"] = Field(
        "projection", description="Which output of the decoders is compared with the targets."
    )
    method: Literal["clip_text", "layers", "vote"] = Field(
        "layers",
        description="The text alone, single guidance layers (their mean), or the layers' vote.",
    )
    pool: Literal["drawn", "all"] = Field(
        "all", description="Candidates: drawn ones, or all images."
    )


class FindingSettings(Section):
    """What the findings claim, and from which thresholds on: the same for every run."""

    early: tuple[str, ...] = Field(
        ("alexnet2", "alexnet5"),
        description="Identification metrics that guidance should raise.",
    )
    late: tuple[str, ...] = Field(
        ("inception", "clip"), description="Identification metrics that guidance must not harm."
    )
    late_margin: Fraction = Field(
        0.05, description="Loss in late identification that still counts as none."
    )
    ground_truth_pixcorr: Fraction | None = Field(
        None, description="PixCorr that guided ground truth must reach; empty: only observed."
    )
    retrieval_over_chance: float | None = Field(
        None, gt=0, description="Image retrieval in multiples of chance; empty: only observed."
    )
    pretraining_gain: RetrievalMeasure = Field(
        default_factory=RetrievalMeasure,
        description="Retrieval of test images on which finetuning after pretraining must beat "
        "training from scratch for as many steps as finetuning, where decoder.controls names "
        "scratch.",
    )
    guidance_correlation: Fraction | None = Field(
        None, description="Pearson r of the decoded guidance features; empty: only observed."
    )
    encoder_of_ceiling: Fraction | None = Field(
        None,
        description="Share of the noise ceiling that every subject's encoding model must reach in "
        "V1, V2 and V3; empty: only observed.",
    )
    noise_ceiling: tuple[float, float] | None = Field(
        None, description="Mean noise ceiling in % of variance, lowest and highest; or empty."
    )


NSD_NETWORKS = {
    "alexnet": NetworkSettings(
        model="alexnet",
        nodes={"layer_2": "features.4", "layer_5": "features.11"},
        size=256,
    ),
    "inception": NetworkSettings(
        model="inception_v3",
        nodes={"pooled": "avgpool"},
        size=342,
    ),
    "inception_fid": NetworkSettings(
        model="inception-2015",
        nodes={"pooled": "2048", "logits": "logits_unbiased"},
        first_resize=False,
        size=None,
        normalisation="none",
    ),
    "lpips": NetworkSettings(
        model="alexnet",
        architecture="lpips",
        nodes={"weighted": "output"},
        size=256,
        normalisation="none",
    ),
    "clip": NetworkSettings(
        model="clip-vit-l-14",
        nodes={"embedding": "output"},
        size=224,
        normalisation="clip",
    ),
    "efficientnet": NetworkSettings(
        model="efficientnet_b1",
        nodes={"pooled": "avgpool"},
        size=255,
    ),
    "swav": NetworkSettings(
        model="swav",
        nodes={"pooled": "avgpool"},
        size=224,
    ),
}


def judge(name: str, label: str, network: str, node: str, measure: str, level: str) -> Judge:
    """A judge without a minimum of images."""
    return Judge(name=name, label=label, network=network, node=node, measure=measure, level=level)


NSD_JUDGES = (
    judge("alexnet2", "AlexNet(2)", "alexnet", "layer_2", "identification", "early"),
    judge("alexnet5", "AlexNet(5)", "alexnet", "layer_5", "identification", "early"),
    judge("inception", "IncepV3", "inception", "pooled", "identification", "late"),
    judge("clip", "CLIP", "clip", "embedding", "identification", "late"),
    judge("effnet", "EffNet-B", "efficientnet", "pooled", "distance", "late"),
    judge("swav", "SwAV", "swav", "pooled", "distance", "late"),
    judge("lpips", "LPIPS", "lpips", "weighted", "perceptual", "early"),
    Judge(
        name="kid",
        label="KID",
        network="inception_fid",
        node="pooled",
        measure="kernel_distance",
        level="late",
        minimum_images=3,
    ),
    Judge(
        name="inception_score",
        label="IS",
        network="inception_fid",
        node="logits",
        measure="inception_score",
        level="late",
        minimum_images=1000,
    ),
    Judge(
        name="fid",
        label="FID",
        network="inception_fid",
        node="pooled",
        measure="frechet_distance",
        level="late",
        minimum_images=1000,
    ),
)

COMPARISONS = {
    "guided_minus_unguided": ComparisonSettings(first="guided", second="unguided"),
    "guided_minus_wrong_image": ComparisonSettings(first="guided", second="wrong_image"),
    "wrong_image_minus_unguided": ComparisonSettings(first="wrong_image", second="unguided"),
    "guided_minus_mean_feature": ComparisonSettings(first="guided", second="mean_feature"),
    "mean_feature_minus_unguided": ComparisonSettings(first="mean_feature", second="unguided"),
    "guided_best_minus_guided": ComparisonSettings(first="guided_best", second="guided"),
    "ground_truth_guided_minus_unguided": ComparisonSettings(
        first="ground_truth_guided", second="ground_truth_unguided"
    ),
}


class Measures(Section):
    """How reconstructed images are measured."""

    networks: dict[str, NetworkSettings] = Field(
        NSD_NETWORKS,
        description="Pretrained networks that judge, and their nodes. Nodes and sizes are those of "
        "MindEye's code; the paper names the networks only.",
    )
    judges: tuple[Judge, ...] = Field(
        NSD_JUDGES, description="What is measured on which node of which network."
    )
    first_resize: int | None = Field(
        256,
        ge=8,
        description="Width to which every image is brought before any metric but those of networks "
        "that say otherwise. MindEye's code, which the paper follows: 256; corrected: empty, each "
        "metric resizes the image itself.",
    )
    image_size: int = Field(
        425, ge=16, description="Width at which PixCorr, SSIM and consistency are measured."
    )

    def first_resize_of(self, network: str) -> int | None:
        """Width to which images are brought before they reach a network's own preprocessing."""
        return self.first_resize if self.networks[network].first_resize else None


class Conventions(Section):
    """What the tables mean by a metric that has several conventions; all of them are measured."""

    identification: Literal["mindeye", "takagi"] = Field(
        "takagi",
        description="takagi (the paper's text): for each stimulus, correlations averaged over the "
        "repeats, against the other reconstructions; mindeye: for each single reconstruction, "
        "against the other stimuli. The numbers are not interchangeable; both are kept.",
    )
    ssim: Literal["2d", "columns"] = Field(
        "2d",
        description="2d: the usual window; columns: every column of pixels as a channel of its "
        "own, which scikit-image up to 0.19 made of the peers' call. Both are kept.",
    )
    brain_correlation: Literal["voxels_per_image", "images_per_voxel"] = Field(
        "voxels_per_image",
        description="Which brain correlation the tables call V1 to Whole: over the voxels of each "
        "image (the peers' code), or over images for each voxel (the paper's text). Both are kept.",
    )


IDENTIFICATIONS = get_args(Conventions.model_fields["identification"].annotation)


class Evaluation(Conventions, Measures):
    """How reconstructions, decoded embeddings and retrieval are measured."""

    missing_weights: Literal["fetch", "skip"] = Field(
        "fetch",
        description="Weights of judges that are not there: fetch them, or skip these judges, with "
        "a note in every table.",
    )
    retrieval: RetrievalSettings = Field(
        default_factory=RetrievalSettings, description=RetrievalSettings.__doc__
    )
    bootstrap: BootstrapSettings = Field(
        default_factory=BootstrapSettings, description=BootstrapSettings.__doc__
    )
    comparisons: dict[str, ComparisonSettings] = Field(
        COMPARISONS, description="Differences between variants, computed where both have run."
    )
    findings: FindingSettings = Field(
        default_factory=FindingSettings, description=FindingSettings.__doc__
    )

    @property
    def measures(self) -> Measures:
        """What measuring images depends on, without the networks that no judge uses."""
        fields = {name: getattr(self, name) for name in Measures.model_fields}
        used = {judge.network for judge in self.judges}
        networks = {name: self.networks[name] for name in self.networks if name in used}
        return Measures(**fields | {"networks": networks})

    @property
    def conventions(self) -> Conventions:
        """What the tables mean by the metrics that have several conventions."""
        return Conventions(**{name: getattr(self, name) for name in Conventions.model_fields})

    @model_validator(mode="after")
    def names_are_known(self) -> Self:
        """Judges differ by name and name nodes that exist; findings name judges."""
        names = [judge.name for judge in self.judges]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"judges holds {repeated[0]} twice; give each judge its own name")
        for name in names:
            if name.endswith(tuple(f"_{convention}" for convention in IDENTIFICATIONS)):
                raise ValueError(
                    f"judges holds {name}, whose ending is that of a convention; give it another "
                    "name, because every convention is measured and adds its own ending"
                )
        for judge in self.judges:
            _require_node(judge, self.networks)
        identified = [j.name for j in self.judges if j.measure == "identification"]
        for name in (*self.findings.early, *self.findings.late):
            if name not in identified:
                raise ValueError(
                    f"findings names {name}; choose among the judges that measure identification: "
                    f"{', '.join(identified)}"
                )
        return self


def _require_node(judge: Judge, networks: dict[str, NetworkSettings]) -> None:
    if judge.network not in networks:
        raise ValueError(
            f"the judge {judge.name} uses the network {judge.network}; "
            f"known networks are {', '.join(networks)}"
        )
    if judge.node not in networks[judge.network].nodes:
        raise ValueError(
            f"the judge {judge.name} uses the node {judge.node} of {judge.network}; "
            f"its nodes are {', '.join(networks[judge.network].nodes)}"
        )
