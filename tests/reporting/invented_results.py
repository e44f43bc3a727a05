"""An invented experiment, written file by file in the workflow's own formats.

Nothing here was measured: the numbers are drawn from a seeded generator, only to exercise tables,
figures and the report.
"""

import hashlib
import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from neuraldiffuser import storage
from neuraldiffuser.config.decoder import Recipe
from neuraldiffuser.config.evaluation import BootstrapSettings
from neuraldiffuser.config.root import Config
from neuraldiffuser.diffusion.selection import choose_repeats
from neuraldiffuser.evaluation.brain import Ceilings, find_areas
from neuraldiffuser.evaluation.contrasts import COMPARISON, SUMMARY
from neuraldiffuser.evaluation.encoder_accuracy import summarise_accuracy
from neuraldiffuser.evaluation.metrics import AREAS, DIRECTIONS, brain_metric
from neuraldiffuser.evaluation.sweep import SWEEP
from neuraldiffuser.mini import scenes
from neuraldiffuser.nsd.selection import Selection
from neuraldiffuser.reporting import regions
from neuraldiffuser.reporting.result import write_figure

METRICS = {  # name: (base, gain by guidance, gain by a control, unit, direction)
    "pixcorr": (0.31, 0.09, 0.0, "correlation", "higher"),
    "ssim": (0.30, 0.03, -0.01, "index", "higher"),
    "lite_early": (0.78, 0.04, -0.03, "share identified", "higher"),
    "lite_middle": (0.80, 0.08, -0.02, "share identified", "higher"),
    "lite_pooled": (0.78, 0.03, -0.02, "share identified", "higher"),
    "lite_distance": (0.74, -0.05, 0.01, "1 - correlation", "lower"),
    "consistency": (0.37, 0.11, 0.045, "correlation", "higher"),
    "brain_correlation_V1": (0.24, 0.06, 0.0, "correlation", "higher"),
    "brain_correlation_V2": (0.22, 0.05, 0.0, "correlation", "higher"),
    "brain_correlation_V3": (0.20, 0.05, 0.0, "correlation", "higher"),
    "brain_correlation_hV4": (0.18, 0.03, 0.0, "correlation", "higher"),
    "brain_correlation_higher_visual": (0.21, 0.01, 0.0, "correlation", "higher"),
    "brain_correlation_nsdgeneral": (0.22, 0.03, 0.0, "correlation", "higher"),
}
SIZE = 64
REPEATS = 5


@dataclass(frozen=True)
class World:
    """Where the invented artefacts lie, and what they describe."""

    results: Path
    stimuli: Path
    subjects: tuple[str, ...]
    variants: tuple[str, ...]
    images: int

    def paths(self, kind: str) -> list[Path]:
        """The files of one kind, as the rules would hand them over."""
        return sorted(path for pattern in PATTERNS[kind] for path in self.results.glob(pattern))


PATTERNS = {
    "summary": ["evaluation/summary.csv"],
    "aggregations": ["evaluation/aggregations.csv"],
    "comparisons": ["evaluation/comparisons.csv"],
    "sweep": ["evaluation/sweep.csv"],
    "decoding": ["evaluation/decoding/subj??.csv"],
    "retrieval": ["evaluation/retrieval/subj??.csv"],
    "predictors": ["evaluation/predictors.csv"],
    "predictor_comparisons": ["evaluation/predictor_comparisons.csv"],
    "images": ["evaluation/*/*/images.csv"],
    "reconstructions": ["reconstructions/*/*/shard-*.h5"],
    "selections": ["selections/*/*.csv"],
    "curves": ["decoders/*/*/*_curve.csv"],
    "control_curves": ["controls/scratch/*/*_curve.csv"],
    "decoders": ["decoders/*/subj01/*.safetensors"],
    "voxels": ["voxels/*.h5"],
    "encoders": ["encoders/*_accuracy.csv"],
    "calibrations": ["calibrations/*/*.json"],
    "models": ["models/**/*.json"],
    "stimuli": ["../nsd_stimuli.hdf5"],
    "rivals": [],
}


def invent(
    folder: Path,
    *,
    subjects: tuple[str, ...] = ("subj01", "subj02"),
    variants: tuple[str, ...] = (
        "guided",
        "unguided",
        "wrong_image",
        "ground_truth_guided",
        "ground_truth_unguided",
    ),
    images: int = 12,
) -> World:
    """Writes every artefact that reporting reads below ``folder``."""
    world = World(folder / "results", folder / "nsd_stimuli.hdf5", subjects, variants, images)
    pictures = draw_stimuli(world)
    write_reconstructions(world, pictures)
    write_selections(world)
    write_summaries(world)
    write_sweep(world)
    write_decoding(world)
    write_brains(world)
    write_findings(world)
    write_receipts(world)
    return world


def subjects_of(world: World, variant: str) -> tuple[str, ...]:
    """The subjects a variant runs for."""
    return ("stimulus",) if variant.startswith("ground_truth") else world.subjects


def ids_of(world: World) -> np.ndarray:
    """Test ids, ascending and with gaps."""
    return np.arange(world.images) * 3 + 1


def draw_stimuli(world: World) -> np.ndarray:
    """Scenes as an NSD stimulus file; returns those of the test ids."""
    count = int(ids_of(world).max()) + 1
    pictures = np.stack([scenes.draw_scene(seed=7, scene=i, size=SIZE).image for i in range(count)])
    storage.write_arrays(world.stimuli, {"imgBrick": pictures})
    return pictures[ids_of(world)]


def write_reconstructions(world: World, pictures: np.ndarray) -> None:
    """Stimuli with more or less invented noise, two shards per subject."""
    amounts = {"guided": 0.35, "unguided": 0.6, "wrong_image": 0.65}
    for number, variant in enumerate(world.variants):
        for subject in subjects_of(world, variant):
            rng = np.random.default_rng([number, len(subject)])
            amount = amounts.get(variant, 0.15)
            other = pictures[rng.permutation(len(pictures))][:, None]
            noise = rng.normal(0, 22, (len(pictures), REPEATS, 8, 8, 3))
            noise = noise.repeat(SIZE // 8, 2).repeat(SIZE // 8, 3)
            mixed = (1 - amount) * pictures[:, None] + amount * other + noise
            images = mixed.clip(0, 255).astype(np.uint8)
            for shard, rows in enumerate(np.array_split(np.arange(len(pictures)), 2)):
                storage.write_arrays(
                    world.results / f"reconstructions/{variant}/{subject}/shard-{shard}.h5",
                    {"images": images[rows], "id": ids_of(world)[rows]},
                    {"variant": variant, "subject": subject},
                )


def invented_mean(variant: str, metric: str) -> float:
    """The invented true mean of a metric for a variant."""
    base, gain, control, _, _ = METRICS[metric]
    if variant.startswith("ground_truth"):
        return base + (1 - base) * (0.75 if variant.endswith("_guided") else 0.6)
    return base + {"guided": gain, "unguided": 0.0}.get(variant, control)


def write_selections(world: World) -> None:
    """Of each guided image one repeat, the next image's next one."""
    repeats = np.arange(world.images) % REPEATS
    for subject in world.subjects:
        table = choose_repeats(ids_of(world), np.eye(REPEATS)[repeats])
        storage.write_table(world.results / f"selections/guided_best/{subject}.csv", table)


def write_summaries(world: World) -> None:
    """Per-image values, summary.csv and comparisons.csv."""
    rng = np.random.default_rng(1)
    summary, comparisons = [], []
    for variant in world.variants:
        for subject in subjects_of(world, variant):
            rows = [
                (int(i), repeat, metric, invented_mean(variant, metric) + rng.normal(0, 0.08))
                for i in ids_of(world)
                for repeat in range(REPEATS)
                for metric in ("pixcorr", "ssim")
            ]
            storage.write_table(
                world.results / f"evaluation/{variant}/{subject}/images.csv",
                pd.DataFrame(rows, columns=["id", "repeat", "metric", "value"]),
            )
        for subject in (*subjects_of(world, variant), "all"):
            for metric, (*_, unit, direction) in METRICS.items():
                if metric.startswith("brain") and variant.startswith("ground_truth"):
                    continue
                mean = invented_mean(variant, metric) + rng.normal(0, 0.008)
                summary.append(
                    (variant, subject, metric, mean, mean - 0.02, mean + 0.02, world.images)
                    + (unit, direction)
                )
    summary.extend(invent_brain_conventions(world))
    for a, b in (
        ("guided", "unguided"),
        ("guided", "wrong_image"),
        ("wrong_image", "unguided"),
        ("ground_truth_guided", "ground_truth_unguided"),
    ):
        if {a, b} <= set(world.variants):
            for metric in METRICS:
                if metric.startswith("brain") and a.startswith("ground_truth"):
                    continue
                mean = invented_mean(a, metric) - invented_mean(b, metric) + rng.normal(0, 0.004)
                comparisons.append(
                    (f"{a}_minus_{b}", a, b, metric, mean, mean - 0.025, mean + 0.027)
                    + (world.images, METRICS[metric][3], 0.0015)
                )
    columns = ["variant", "subject", "metric", "mean", "low", "high", "n", "unit", "direction"]
    path = world.results / "evaluation"
    table = pd.DataFrame(summary, columns=columns)
    storage.write_table(path / "summary.csv", table)
    everybody = table[table["subject"] == "all"].rename(columns={"mean": "images"})
    ways = everybody.assign(paper=everybody["images"] + 0.001, spread=0.012, repeats=REPEATS)
    best = ways["images"].where(~ways["metric"].isin(["consistency"])) + 0.05
    ways = ways.assign(best=best, best_low=best - 0.02, best_high=best + 0.02)
    storage.write_table(path / "aggregations.csv", ways)
    columns = ["name", "variant_a", "variant_b", "metric", "difference", "low", "high", "n"]
    columns += ["unit", "p_holm"]
    storage.write_table(path / "comparisons.csv", pd.DataFrame(comparisons, columns=columns))


def invent_brain_conventions(world: World) -> list[tuple]:
    """Brain correlations both ways, of the stimuli too: each its own number."""
    rows = []
    for variant in (*world.variants, "stimulus"):
        for number, (area, direction, of_ceiling) in enumerate(
            itertools.product(AREAS, DIRECTIONS, (False, True))
        ):
            mean = 0.2 + 0.02 * number + 0.001 * len(variant)
            name = brain_metric(area, direction, of_ceiling=of_ceiling)
            unit = "share of the ceiling" if of_ceiling else "correlation"
            ends = (mean, mean - 0.02, mean + 0.02, world.images, unit, "higher")
            rows.append((variant, "all", name, *ends))
    return rows


def write_sweep(world: World) -> None:
    """Two lines of growing guidance: details gain up to a point, quality suffers; two controls."""
    rng = np.random.default_rng(5)
    aspects = {"lite_pooled": "content", "lite_distance": "quality", "consistency": "repeats"}
    rows = []
    for axis, places in (("scale", (0.01, 0.1, 1.0, 10.0)), ("strength", (0.1, 0.2, 0.6, 1.0))):
        points = [(place, "own", f"{axis}_{place:g}") for place in places]
        if axis == "strength":
            points.append((0.2, "another_image", "wrong_image"))
            points.append((0.2, "mean", "mean_feature"))
        for place, features, variant in points:
            for metric, (_, gain, control, unit, direction) in METRICS.items():
                if metric.startswith("brain"):
                    continue
                aspect = aspects.get(metric, "detail")
                late = aspect in ("content", "quality")
                amount = np.log10(1 + 9 * place) * (1 if place <= 1 else -0.5)
                change = (-gain if late else gain) * amount if features == "own" else control
                change += rng.normal(0, 0.002)
                for reference in (0.0, places[-2]) if place == places[-1] else (0.0,):
                    rows.append(
                        (axis, 1.0, place, variant, features, reference, "unguided", metric)
                    )
                    ends = change, change - 0.012, change + 0.013
                    rows[-1] += (metric, aspect, *ends, world.images, unit, direction)
    path = world.results / "evaluation/sweep.csv"
    storage.write_table(path, pd.DataFrame(rows, columns=SWEEP))


TARGETS = {
    "vae_latent": 0.42,
    "clip_text": 0.66,
    "clip_image_02": 0.58,
    "clip_image_04": 0.6,
    "clip_image_06": 0.57,
    "clip_image_08": 0.55,
    "clip_image_10": 0.56,
    "clip_image_12": 0.6,
}


MEASURES = {  # factor on a target's level, and what the mean feature scores
    "pearson_dimensions": (1.0, 0.0),
    "r2_dimensions": (0.5, -0.01),
    "pearson_samples_raw": (1.2, 0.9),
    "r2_samples_raw": (0.7, 0.5),
    "pearson_samples_centred": (0.9, 0.0),
    "r2_samples_centred": (0.4, 0.0),
}
GAINS = {"decoder": 0.0, "scratch": -0.1, "ridge": 0.04}
METHODS = {"vote": 0.86, "clip_text": 0.35, "layers": 0.6} | {
    name: 0.55 + 0.03 * i for i, name in enumerate(list(TARGETS)[2:])
}


def write_decoding(world: World) -> None:
    """Decoding performance, retrieval, training curves and calibrations."""
    rng = np.random.default_rng(2)
    for subject in world.subjects:
        path = world.results / f"evaluation/decoding/{subject}.csv"
        storage.write_table(path, invent_decoding(world, rng))
        path = world.results / f"evaluation/retrieval/{subject}.csv"
        storage.write_table(path, invent_retrieval(world))
        write_curves(world, subject, rng)
    write_predictors(world)
    write_decoders(world)
    for variant in ("guided", "ground_truth_guided"):
        for subject in subjects_of(world, variant):
            storage.write_json(
                world.results / f"calibrations/{variant}/{subject}.json",
                {"clip_layers": {"scale": 41.5, "ratio": 0.5}},
            )


def invent_decoding(world: World, rng: np.random.Generator) -> pd.DataFrame:
    """One subject's measures of every target and predictor; no network from scratch for z."""
    rows = []
    for split in ("test", "validation"):
        for target, level in (TARGETS | {"guidance": 0.57}).items():
            for measure, (factor, floor) in MEASURES.items():
                scores = {name: (level + gain) * factor for name, gain in GAINS.items()}
                scores["mean_feature"] = level * floor
                if target == "vae_latent":
                    del scores["scratch"]
                for predictor, value in scores.items():
                    noisy = value + rng.normal(0, 0.01)
                    rows.append((split, target, measure, predictor, noisy, 0.08, world.images))
    columns = ["split", "target", "measure", "predictor", "value", "std", "n"]
    return pd.DataFrame(rows, columns=columns)


def invent_retrieval(world: World) -> pd.DataFrame:
    """One subject's retrieval; its method "layers" exists only over all subjects."""
    rows = []
    for split, (predictor, gain), direction, pool in itertools.product(
        ("test", "validation"), GAINS.items(), ("image", "brain"), ("drawn", "all")
    ):
        candidates = 8 if pool == "drawn" else world.images
        output = "embedding" if predictor == "ridge" else "projection"
        for method, level in METHODS.items():
            if method != "layers":
                value = level + gain
                key = (split, predictor, output, method, direction, pool)
                ends = (value, value - 0.06, value + 0.05, 1 / candidates, candidates)
                rows.append((*key, *ends))
    columns = ["split", "predictor", "output", "method", "direction", "pool"]
    columns += ["accuracy", "low", "high", "chance", "candidates"]
    return pd.DataFrame(rows, columns=columns)


def write_curves(world: World, subject: str, rng: np.random.Generator) -> None:
    """Training curves with the parts of each pipeline's loss."""
    steps = np.arange(1200)
    for target in TARGETS:
        parts = ("l1",) if target == "vae_latent" else ("contrastive", "prior")
        places = {
            "decoders/{target}/{subject}/pretrained_curve.csv": 1.1,
            "decoders/{target}/{subject}/finetuned_curve.csv": 0.8,
        }
        if target != "vae_latent":
            places["controls/scratch/{target}/{subject}_curve.csv"] = 1.0
        for place, level in places.items():
            loss = level * (0.4 + np.exp(-steps / 250)) * rng.uniform(0.95, 1.05, len(steps))
            curve = {"step": steps, "learning_rate": 3e-4, "loss": loss}
            curve |= {name: loss / (3 + number) for number, name in enumerate(parts)}
            path = world.results / place.format(target=target, subject=subject)
            storage.write_table(path, pd.DataFrame(curve))


def write_predictors(world: World) -> None:
    """Means of every predictor over all subjects, and differences from the decoder."""
    names = [
        f"{direction}_{kind}_{method}_{pool}"
        for direction, kind, method, pool in itertools.product(
            ("image", "brain", "both"),
            ("retrieval", "embedding_retrieval"),
            METHODS,
            ("drawn", "all"),
        )
    ]
    levels = {name: METHODS[parse(name)] for name in names}
    levels |= {"pearson_clip_text": 0.66, "pearson_layers": 0.57, "pearson_vae_latent": 0.42}
    means, differences = [], []
    for split, (measure, level) in itertools.product(("test", "validation"), levels.items()):
        unit = "correlation" if measure.startswith("pearson") else "share identified"
        for predictor, gain in GAINS.items():
            if (predictor, measure) == ("scratch", "pearson_vae_latent"):
                continue
            value = level + gain
            row = (split, "all", predictor, measure, value, value - 0.04, value + 0.03)
            means.append((*row, world.images, unit))
            if predictor != "decoder":
                row = (split, "all", "decoder", predictor, measure, level, value)
                row += (-gain, -gain - 0.03, -gain + 0.02)
                differences.append((*row, world.images, unit))
    path = world.results / "evaluation"
    storage.write_table(path / "predictors.csv", pd.DataFrame(means, columns=SUMMARY))
    table = pd.DataFrame(differences, columns=COMPARISON)
    storage.write_table(path / "predictor_comparisons.csv", table)


def parse(measure: str) -> str:
    """The method in the name of a retrieval measure."""
    return measure.split("retrieval_")[1].rsplit("_", 1)[0]


def write_decoders(world: World) -> None:
    """Descriptions of the first subject's decoders, without their weights."""
    voxels = {"subj01": 40, "subj02": 50, "subj03": 60}
    stages = {"pretrained": ("subj02", "subj03"), "finetuned": ("subj01",)}
    for target in TARGETS:
        shape = [4, 16, 16] if target == "vae_latent" else [6, 8]
        for stage, subjects in stages.items():
            storage.write_tensors(
                world.results / f"decoders/{target}/subj01/{stage}.safetensors",
                {"none": torch.zeros(1)},
                {
                    "target": target,
                    "shape": shape,
                    "voxel_counts": {name: voxels[name] for name in subjects},
                    "recipe": Recipe().model_dump(mode="json"),
                },
            )


def write_brains(world: World) -> None:
    """Voxels with regions and noise ceilings, their pictures, encoder accuracy, the data card."""
    rng = np.random.default_rng(3)
    for number, subject in enumerate(world.subjects):
        selection = invent_selection(rng, voxels=900 + 150 * number)
        arrays = {name: getattr(selection, name) for name in ("index", "roi", "noise_ceiling")}
        storage.write_arrays(
            world.results / f"voxels/{subject}.h5",
            {f"voxel/{name}": values for name, values in arrays.items()},
        )
        correlation = np.sqrt(selection.noise_ceiling / 100)
        correlation *= rng.normal(0.8, 0.08, len(correlation))
        accuracy = summarise_accuracy(
            correlation,
            ceilings=Ceilings(percent=selection.noise_ceiling, trials=np.array([3])),
            areas=find_areas(selection.roi),
            bootstrap=BootstrapSettings(draws=100),
        )
        storage.write_table(
            world.results / f"encoders/{subject}_accuracy.csv",
            accuracy.assign(split="test", note="invented images"),
        )
        anatomy = regions.read_anatomy(None, volume_shape=selection.volume_shape)
        picture = world.results / f"figures/regions_{subject}"
        write_figure(
            regions.draw(subject, selection=selection, anatomy=anatomy),
            path_to_image=picture.with_suffix(".png"),
            path_to_data=picture.with_suffix(".csv"),
            path_to_words=picture.with_suffix(".json"),
        )
    write_data_card(world)


def invent_selection(rng: np.random.Generator, *, voxels: int) -> Selection:
    """Voxels at the back of a small volume."""
    return Selection(
        volume_shape=(14, 18, 12),
        index=np.sort(rng.permutation(14 * 18 * 12)[:voxels]),
        roi=rng.integers(0, 8, voxels).astype(np.uint8),
        noise_ceiling=(rng.beta(2.2, 4.4, voxels) * 100).astype(np.float32),
    )


def write_data_card(world: World) -> None:
    """A subject that is complete, and others that lack a session."""
    subjects, regions, trials = [], [], []
    for number, subject in enumerate(world.subjects):
        missing = "5" if number else "none"
        row = {"subject": subject, "voxels": 900 + 150 * number, "dropped_voxels": 7 * number}
        row |= {"sessions": 6 - number, "missing_sessions": missing}
        subjects.append(row | {"published_counts": "not NSD's data: nothing to compare"})
        for region in ("nsdgeneral", "V1"):
            row = {"subject": subject, "region": region, "voxels": 900 if region != "V1" else 210}
            row |= {"invalid_voxels": 4, "invalid_voxel_sessions": 6, "noise_ceiling": 31.4}
            row |= {"noise_ceiling_10": 8.2, "noise_ceiling_50": 30.1, "noise_ceiling_90": 62.9}
            regions.append(row)
        for split, images in (("training", 1450), ("test", world.images)):
            row = {"subject": subject, "split": split, "trials": 3 * images, "images": images}
            trials.append(row | {"shown_once": 0, "shown_twice": 0, "shown_three_times": images})
    for name, rows in (("subjects", subjects), ("data_card", regions), ("trials", trials)):
        storage.write_table(world.results / f"voxels/{name}.csv", pd.DataFrame(rows))


def write_findings(world: World) -> None:
    """Claims that hold and do not hold, and an observation."""
    storage.write_json(
        world.results / "findings.json",
        {
            "claims": [
                {
                    "name": "guided minus unguided is above zero: PixCorr",
                    "estimate": 0.0912,
                    "interval": [0.0661, 0.1173],
                    "n": world.images,
                    "unit": "correlation",
                    "counted": "image",
                    "is_difference": True,
                    "p_holm": 0.0015,
                    "holds": True,
                },
                {
                    "name": "guided minus unguided stays above -0.05: late identification",
                    "estimate": -0.0312,
                    "interval": [-0.0711, 0.0102],
                    "n": world.images,
                    "unit": "share identified",
                    "counted": "image",
                    "is_difference": True,
                    "p_holm": None,
                    "holds": False,
                },
            ],
            "observations": [
                {
                    "name": "image retrieval over chance",
                    "estimate": 31.5,
                    "interval": [29.0, 33.8],
                    "n": world.images,
                    "unit": "times chance",
                    "counted": "image",
                    "is_difference": False,
                    "p_holm": None,
                },
                {
                    "name": "decoder minus ridge regression, test images: retrieval",
                    "estimate": -0.04,
                    "interval": [-0.07, -0.02],
                    "n": world.images,
                    "unit": "share identified",
                    "counted": "image",
                    "is_difference": True,
                    "p_holm": None,
                    "sentence": "The decoder falls short of ridge regression by 0.04.",
                    "about": "decoders",
                },
            ],
        },
    )


def write_receipts(world: World) -> None:
    """What the files of the models in use were found to be: a digest of each file's name."""
    for name, model in configure(world).used_models.items():
        for file in model.files:
            found = {"size": len(file), "sha256": hashlib.sha256(file.encode()).hexdigest()}
            storage.write_json(world.results / f"models/{name}/{file}.json", found)


def configure(world: World, **report: object) -> Config:
    """A configuration that fits the invented experiment: the miniature's judges, context only."""
    judges = [
        {
            "name": name,
            "label": f"Judge({name})",
            "network": "alexnet",
            "node": "layer_2",
            "measure": "distance" if name == "lite_distance" else "identification",
            "level": "early" if name in ("lite_early", "lite_middle") else "late",
        }
        for name in METRICS
        if name.startswith("lite_")
    ]
    findings = {"early": ["lite_early"], "late": ["lite_pooled"]}
    return Config.model_validate(
        {
            "subjects": world.subjects,
            "reconstruction": {"run": world.variants},
            "evaluation": {"judges": judges, "findings": findings},
            "report": {"title": "An invented world", "paper_values": "context"} | report,
        }
    )
