"""The figures that show numbers: what each plots, how to read it, what it says.

Those about decoders stand in ``decoder_figures``.

A figure is made in three steps: pick the rows it plots, draw them, put the result into words.
The picked rows are saved beside the picture, so that every mark can be looked up.
"""

from collections.abc import Callable, Collection

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as MatplotlibFigure

from neuraldiffuser import storage, words
from neuraldiffuser.config.reconstruction import STIMULUS
from neuraldiffuser.config.report import Presentation
from neuraldiffuser.evaluation.metrics import AREAS, brain_metric
from neuraldiffuser.evaluation.predictors import TEST
from neuraldiffuser.reporting import (
    decoder_figures,
    labels,
    method_pictures,
    pictures,
    plots,
    style,
    sweep_figures,
)
from neuraldiffuser.reporting.result import Figure
from neuraldiffuser.reporting.sources import Sources

BINS = np.arange(0.0, 102.5, 2.5)  # noise ceiling, % of variance
AREA_METRICS = {brain_metric(area): label for area, (label, _) in AREAS.items()}
NOT_COMPUTED = "not computed"
MARKED = (
    f"Where a variant is marked {labels.SCORED}, this very model guided it: there the value says "
    "how well the guidance was followed, not how good the image is."
)

UNMARKED = "No voxel that is compared here took part in guidance."


def draw_differences(sources: Sources, experiment: Presentation) -> Figure:
    """Paired differences between variants, with intervals: the paper's finding."""
    data = pick_differences(sources.table("comparisons"), experiment)
    colours = comparison_colours(data, experiment)
    rows = max(data["label"].nunique(), 1) if len(data) else 1
    figure, (ax,) = style.new_figure(height=1.3 + 0.42 * rows)
    plots.plot_differences(data, ax=ax, colours=colours)
    if len(data):
        ax.set_xlabel(plots.DIFFERENCE)
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    return Figure(
        title="What guidance changes",
        caption="Each point is the mean over test images of the difference between two variants on "
        "the same image, after averaging over repeats and subjects; the line is the bootstrap "
        "interval over images. An interval that does not touch the vertical line excludes zero. "
        "For a metric marked ↓ lower is better. Guidance by features that do not belong to the "
        "image is the control: where its interval lies wholly on the better side too, the gain is "
        f"not by the image's own features. {_tell_counts(data, experiment)}",
        alt=_tell_differences(data),
        data=data,
        image=style.encode_figure(figure),
    )


def pick_differences(comparisons: pd.DataFrame, experiment: Presentation) -> pd.DataFrame:
    """Rows of the comparisons among the method, its baseline and its controls."""
    report = experiment.report
    shown = {report.headline, report.baseline, *report.controls}
    columns = ["label", "comparison", "metric", "difference", "low", "high", "n", "unit", "p_holm"]
    if comparisons.empty:
        return pd.DataFrame(columns=[*columns, "variant_a", "variant_b", "colour"])
    metrics = labels.choose_metrics(experiment)
    chosen = comparisons[
        comparisons["variant_a"].isin(shown)
        & comparisons["variant_b"].isin(shown)
        & comparisons["metric"].isin(metrics)
    ]
    order = {name: rank for rank, name in enumerate(metrics)}
    main = chosen["variant_a"].eq(report.headline) & chosen["variant_b"].eq(report.baseline)
    chosen = chosen.assign(main=~main, rank=chosen["metric"].map(order))
    chosen = chosen.sort_values(["rank", "main"], kind="stable")
    named = chosen.assign(
        label=[labels.heading(metrics[name]) for name in chosen["metric"]],
        comparison=[
            f"{labels.label_variant(a)} {words.MINUS} {labels.label_variant(b)}"
            for a, b in zip(chosen["variant_a"], chosen["variant_b"], strict=True)
        ],
    )
    colours = named["comparison"].map(comparison_colours(named, experiment))
    return named[[*columns, "variant_a", "variant_b"]].assign(colour=colours).reset_index(drop=True)


def _tell_counts(data: pd.DataFrame, experiment: Presentation) -> str:
    """What intervals and p are, and over how many images."""
    if data.empty:
        return ""
    images = words.write_count(data["n"].max(), "image")
    return (
        f"Intervals: {100 * experiment.interval_level:g} %, unadjusted, {images}; p of a sign-flip "
        "test, adjusted by Holm over the metrics of one comparison, in the words below."
    )


def comparison_colours(data: pd.DataFrame, experiment: Presentation) -> dict[str, str]:
    """A colour per comparison: the method against its baseline stands out."""
    report = experiment.report
    pairs = data.drop_duplicates("comparison")
    spare = iter((style.ORANGE, style.OCHRE, style.RED, style.VIOLET))
    beside = iter((style.GREEN, "#7fb89c", "#b5d6c5"))
    colours = {}
    for row in pairs.itertuples():
        if (row.variant_a, row.variant_b) == (report.headline, report.baseline):
            colours[row.comparison] = style.BLUE
        elif row.variant_a == report.headline:
            colours[row.comparison] = next(beside, style.MUTED)
        else:
            colours[row.comparison] = next(spare, style.MUTED)
    return colours


def _tell_differences(data: pd.DataFrame) -> str:
    if data.empty:
        return "No comparison between variants has been made."
    first = data["comparison"].iloc[0]
    part = data[data["comparison"] == first]
    told = [
        f"{row.label.rstrip(' ↑↓')} "
        + words.write_estimate(row.difference, row.low, row.high, unit=row.unit, signed=True)
        + f" ({words.write_p(row.p_holm)})"
        for row in part.itertuples()
    ]
    return f"{first}: " + "; ".join(told) + "."


def draw_metrics(sources: Sources, experiment: Presentation) -> Figure:
    """Every metric of every variant: means over subjects with intervals, subjects beside them."""
    data = pick_summary(sources.table("summary"), experiment)
    if len(data):
        beside = data["metric"].isin(AREA_METRICS) | labels.find_single(data, experiment)
        colours = style.variant_colours([n for n in experiment.run if n in set(data["variant"])])
        data = data[~beside].assign(colour=data["variant"].map(colours))
    metrics = labels.choose_metrics(experiment)
    names = list(dict.fromkeys(data["metric"])) if len(data) else []
    variants = [name for name in experiment.run if len(data) and name in set(data["variant"])]
    colours = style.variant_colours(variants)
    columns = 3
    lines = max(-(-len(names) // columns), 1)
    figure, axes = style.new_figure(
        lines, columns, width=9.2, height=lines * (0.75 + 0.26 * max(len(variants), 3))
    )
    markers = plots.subject_markers(experiment.subjects)
    for number, ax in enumerate(axes):
        if number >= len(names):
            ax.set_axis_off()
            continue
        part = data[data["metric"] == names[number]]
        if part["mean"].isna().all():
            style.say_no_data(ax, explain_missing(part))
        else:
            shown = labels.scale(part, ("mean", "low", "high"))
            plots.plot_variants(shown, ax=ax, colours=colours, markers=markers)
        unit = words.name_scale(metrics[names[number]].unit)
        ax.set_title(labels.heading(metrics[names[number]]) + unit)
        if number % columns:
            ax.set_yticklabels([])
    if names:
        _add_subject_legend(figure, axes[0], markers)
    return Figure(
        title="Every metric, every variant",
        caption="A panel per metric, a row per variant. The coloured point is the mean over "
        "repeats, subjects and test images with its bootstrap interval over images; small grey "
        "marks are single subjects. ↑: higher is better, ↓: lower is better. Variants called "
        "ground truth start from the stimulus' own embeddings and bound what decoding could reach."
        + _list_missing(data, experiment),
        alt=_tell_metrics(data, experiment),
        data=data,
        image=style.encode_figure(figure),
    )


def pick_summary(summary: pd.DataFrame, experiment: Presentation) -> pd.DataFrame:
    """Rows of the summary for the metrics and variants that are shown, in their order."""
    if summary.empty:
        return summary
    metrics = {name: rank for rank, name in enumerate(labels.choose_metrics(experiment))}
    variants = {name: rank for rank, name in enumerate([*experiment.run, STIMULUS])}
    chosen = summary[summary["metric"].isin(metrics) & summary["variant"].isin(variants)]
    ranks = chosen.assign(
        metric_rank=chosen["metric"].map(metrics), variant_rank=chosen["variant"].map(variants)
    ).sort_values(["metric_rank", "variant_rank"], kind="stable")
    return ranks.drop(columns=["metric_rank", "variant_rank"]).assign(
        label=[labels.label_variant(name) for name in ranks["variant"]]
    )


def _list_missing(data: pd.DataFrame, experiment: Presentation) -> str:
    """The metrics that no variant has, with the reason."""
    if data.empty:
        return ""
    names = {name: metric.label for name, metric in labels.choose_metrics(experiment).items()}
    told = [
        f"{names[name]} ({explain_missing(part).replace(chr(10), ' ')})"
        for name, part in data.groupby("metric", sort=False)
        if part["mean"].isna().all()
    ]
    return f" Without a value: {words.join_words(told)}." if told else ""


def explain_missing(part: pd.DataFrame) -> str:
    """Why a metric has no value, in short lines: the notes of the summary."""
    notes = part["note"].dropna().unique() if "note" in part else []
    return "\n".join(notes).replace(": ", ":\n") or NOT_COMPUTED


def _tell_metrics(data: pd.DataFrame, experiment: Presentation) -> str:
    if data.empty:
        return "No metric has been summarised."
    told, metrics = [], labels.choose_metrics(experiment)
    for name in (experiment.report.headline, experiment.report.baseline):
        part = data[(data["variant"] == name) & (data["subject"] == "all")]
        values = [
            f"{metrics[row.metric].label} "
            + (NOT_COMPUTED if np.isnan(row.mean) else words.write_number(row.mean, unit=row.unit))
            for row in part.itertuples()
        ]
        if values:
            told.append(f"{labels.label_variant(name)}: {', '.join(values)}")
    return ". ".join(told) + "."


def _add_subject_legend(figure: MatplotlibFigure, ax: Axes, markers: dict[str, str]) -> None:
    for subject, marker in markers.items():
        ax.plot([], [], marker, color=style.MUTED, markersize=4, linewidth=0, label=subject)
    figure.legend(
        *ax.get_legend_handles_labels(), loc="outside lower center", ncols=len(markers), fontsize=8
    )


def draw_brain_correlation(sources: Sources, experiment: Presentation) -> Figure:
    """Brain correlation by region of every variant but the columns of the sweep."""
    summary = sources.table("summary")
    data, scored = (
        pick_brain_correlation(summary, experiment),
        labels.list_scored(summary, experiment),
    )
    looks = colour_beside_sweep(experiment)
    here = set(data["series"])
    named = {name: labels.mark_scored(name, scored) for name in looks}
    colours = {label: looks[name] for name, label in named.items() if label in here}
    marked = any(name in scored for name, label in named.items() if label in here)
    figure, (ax,) = style.new_figure(width=8.4, height=3.3)
    plots.plot_regions(data, ax=ax, colours=colours, markers={"all": "o", "stimulus": "o"})
    if len(data):
        ax.set_ylabel("correlation with measured responses")
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=min(len(colours), 4))
    return Figure(
        title="Brain correlation",
        caption="An encoding model predicts the responses to a reconstruction; the value is their "
        "correlation with the measured responses (mean of a test image's trials), region by "
        "region, averaged over subjects, with bootstrap intervals over images. "
        f"{labels.tell_brain_convention(experiment)} "
        "The stimulus, seen by the same model, bounds what a reconstruction could reach. "
        + (MARKED if marked else UNMARKED),
        alt=_tell_regions(data, experiment, scored),
        data=data,
        image=style.encode_figure(figure),
    )


def pick_brain_correlation(summary: pd.DataFrame, experiment: Presentation) -> pd.DataFrame:
    """Brain correlations over all subjects: region, series (variant), value, low, high."""
    columns = ["region", "series", "subject", "value", "low", "high", "n", "colour"]
    if summary.empty:
        return pd.DataFrame(columns=columns)
    scored = labels.list_scored(summary, experiment)
    rows = pick_summary(labels.take_judging_voxels(summary, experiment), experiment)
    rows = rows[
        rows["metric"].isin(AREA_METRICS)
        & (rows["subject"] == "all")
        & rows["variant"].isin([*list_beside_sweep(experiment), STIMULUS])
    ]
    named = rows.assign(
        region=rows["metric"].map(AREA_METRICS),
        series=[labels.mark_scored(name, scored) for name in rows["variant"]],
        value=rows["mean"],
        colour=rows["variant"].map(colour_beside_sweep(experiment)),
    )
    return named[columns].reset_index(drop=True)


def colour_beside_sweep(experiment: Presentation) -> dict[str, str]:
    """A colour for each variant of the figure of brain correlations, and for the stimulus."""
    return style.variant_colours([*list_beside_sweep(experiment), STIMULUS])


def list_beside_sweep(experiment: Presentation) -> list[str]:
    """The variants that were run, without the columns of the sweep, which has its own figure.

    Controls are those of the method; those of other variants stand in the tables.
    """
    report = experiment.report
    kept = (report.headline, report.baseline, *report.controls, *report.upper_bounds)
    return [name for name in experiment.run if name in kept or _stands_alone(name, experiment)]


def _stands_alone(name: str, experiment: Presentation) -> bool:
    own = experiment.variants[name].features == "own"
    return own and not labels.is_of_sweep(name, experiment)


def _tell_regions(data: pd.DataFrame, experiment: Presentation, scored: Collection[str]) -> str:
    if data.empty:
        return "No brain correlation has been measured."
    wanted = labels.mark_scored(experiment.report.headline, scored)
    part = data[data["series"] == wanted]
    told = [f"{row.region} {words.write_number(row.value)}" for row in part.itertuples()]
    return f"{wanted}: " + ", ".join(told) + "."


def draw_noise_ceiling(sources: Sources, experiment: Presentation) -> Figure:  # noqa: ARG001
    """Distribution of noise ceilings over the voxels of each subject."""
    data = count_noise_ceilings(sources)
    shown = [name for name in _voxel_subjects(sources)]
    figure, (ax,) = style.new_figure(height=2.9)
    plots.plot_histogram(data, ax=ax, colours=decoder_figures.subject_colours(shown))
    if len(data):
        ax.set_xlabel("noise ceiling of the mean of three trials (% of variance)")
        ax.set_ylabel("voxels")
        ax.legend()
    means = data.drop_duplicates("subject") if len(data) else data
    told = [f"{row.subject} {words.write_number(row.mean)} %" for row in means.itertuples()]
    return Figure(
        title="Noise ceilings of the voxels",
        caption="How much of a voxel's variance over images any model could explain, given its "
        "trial-to-trial noise; a curve per subject, the mean dashed. For NSD itself reports give "
        "means of about 24 % (volume) and 36 % (visual cortex) of variance.",
        alt="Mean noise ceiling: " + ", ".join(told) + "." if told else "No voxels are prepared.",
        data=data,
        image=style.encode_figure(figure),
    )


def _voxel_subjects(sources: Sources) -> list[str]:
    return [who["subject"] for who, _ in sources.files("voxels")]


def count_noise_ceilings(sources: Sources) -> pd.DataFrame:
    """Voxels per bin of the noise ceiling: subject, low, high, voxels, mean (of the subject)."""
    parts = []
    for who, path in sources.files("voxels"):
        ceiling = storage.read_array(path, "voxel/noise_ceiling")
        counts, edges = np.histogram(ceiling, BINS)
        parts.append(
            pd.DataFrame({"low": edges[:-1], "high": edges[1:], "voxels": counts}).assign(
                subject=who["subject"], mean=float(ceiling.mean(dtype=np.float64))
            )
        )
    columns = ["subject", "low", "high", "voxels", "mean"]
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)


def draw_encoder_accuracy(sources: Sources, experiment: Presentation) -> Figure:
    """Held-out accuracy of the encoding models by region, beside the noise ceiling."""
    accuracy = read_encoder_accuracy(sources)
    data = pick_encoder_accuracy(accuracy)
    figure, (ax,) = style.new_figure(width=7.2, height=3.0)
    colours = {"encoder": style.BLUE, "noise ceiling": style.GREY}
    markers = plots.subject_markers(experiment.subjects)
    plots.plot_regions(data, ax=ax, colours=colours, markers=markers)
    if len(data):
        ax.set_ylabel("Pearson r, mean over voxels")
        ax.set_ylim(0, 1.08 * data["value"].max())
        for subject in dict.fromkeys(data["subject"]):
            look = {"marker": markers[subject], "color": style.MUTED, "linewidth": 0}
            ax.plot([], [], markersize=4.8, label=subject, **look)
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=6)
    return Figure(
        title="Accuracy of the encoding models",
        caption="Correlation between predicted and measured responses to test images, averaged "
        "over the voxels of an area; grey is the highest correlation that the voxels' noise "
        f"allows. A mark per subject. {_tell_images(accuracy)}{_tell_share(accuracy)}"
        "Brain correlation is only as good as these models.",
        alt=_tell_encoder(data),
        data=data,
        image=style.encode_figure(figure),
    )


def read_encoder_accuracy(sources: Sources) -> pd.DataFrame:
    """Accuracy of every subject's encoder on test images, by area, as its rule measured it."""
    parts = [storage.read_table(path).assign(**who) for who, path in sources.files("encoders")]
    if not parts:
        return pd.DataFrame(columns=["subject", "area", "correlation", "ceiling", "note"])
    table = pd.concat(parts, ignore_index=True)
    return table[table["split"] == TEST]


def pick_encoder_accuracy(accuracy: pd.DataFrame) -> pd.DataFrame:
    """Means over an area's voxels: region, series, subject, value (low and high are empty)."""
    rows = [
        (AREAS[row.area][0], series, row.subject, value)
        for row in accuracy.itertuples()
        for series, value in (("encoder", row.correlation), ("noise ceiling", row.ceiling))
    ]
    data = pd.DataFrame(rows, columns=["region", "series", "subject", "value"])
    return data.assign(low=np.nan, high=np.nan)


def _tell_images(accuracy: pd.DataFrame) -> str:
    """What the images were to the models."""
    notes = accuracy["note"].unique()
    return f"The images: {'; '.join(notes)}. " if len(notes) else ""


def _tell_share(accuracy: pd.DataFrame) -> str:
    """What share of the ceiling the models reach, area by area."""
    if accuracy.empty:
        return ""
    shares = accuracy.groupby("area", sort=False)["fraction"].mean()
    told = [
        f"{AREAS[area][0]} {words.write_number(share, unit='share of the ceiling')}"
        for area, share in shares.items()
    ]
    return f"Of the noise ceiling, mean over voxels and subjects, they reach: {', '.join(told)}. "


def _tell_encoder(data: pd.DataFrame) -> str:
    if data.empty:
        return "No encoding model has been trained."
    means = data.groupby(["region", "series"], sort=False)["value"].mean().unstack()
    told = [
        f"{region} {words.write_number(row['encoder'])} of "
        f"{words.write_number(row['noise ceiling'])}"
        for region, row in means.iterrows()
    ]
    return "Encoder correlation of the attainable one, averaged over subjects: " + (
        ", ".join(told) + "."
    )


FIGURES: dict[str, Callable[[Sources, Presentation], Figure]] = {
    "examples": pictures.show_examples,
    "differences": draw_differences,
    "sweep": sweep_figures.draw_sweep,
    "metrics": draw_metrics,
    "figure5": decoder_figures.draw_decoding,
    "figure6": method_pictures.show_rivals,
    "figure7": method_pictures.show_guidance_functions,
    "figure8": pictures.show_hyperparameters,
    "figure9": pictures.show_repeats,
    "figure10": pictures.show_subjects,
    "figure11": method_pictures.show_brain_guidance,
    "brain_correlation": draw_brain_correlation,
    "predictor_differences": decoder_figures.draw_predictor_differences,
    "retrieval": decoder_figures.draw_retrieval,
    "noise_ceiling": draw_noise_ceiling,
    "encoder_accuracy": draw_encoder_accuracy,
    "training_curves": decoder_figures.draw_training_curves,
}
