"""The figures about decoders: what they decode and retrieve, beside their controls; training.

Made like the figures of ``figures``: pick rows, draw them, put the result into words.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd

from neuraldiffuser import storage, words
from neuraldiffuser.config.report import Presentation
from neuraldiffuser.evaluation import contrasts
from neuraldiffuser.evaluation.predictors import ALL, DECODER, DRAWN, LAYER_MEAN, SPLITS, TEST, VOTE
from neuraldiffuser.reporting import labels, plots, style
from neuraldiffuser.reporting.result import Figure
from neuraldiffuser.reporting.sources import Sources, read_chances

MEASURES = {
    "pearson_dimensions": "Pearson r\nover images",
    "r2_dimensions": "R²\nover images",
    "pearson_samples_raw": "Pearson r\nover dimensions, raw",
    "pearson_samples_centred": "Pearson r\nover dimensions, centred",
}
CONTRASTED = (  # what the figure of differences shows, top to bottom
    *(
        contrasts.name_retrieval(direction, method, ALL)
        for direction in ("image", "brain")
        for method in ("clip_text", contrasts.SINGLE_LAYERS, VOTE)
    ),
    *(
        contrasts.name_retrieval(contrasts.BOTH, method, ALL, output="embedding")
        for method in ("clip_text", contrasts.SINGLE_LAYERS)
    ),
    "pearson_clip_text",
    "pearson_layers",
    "pearson_vae_latent",
)
POINTS = 200  # of a training curve
RATE = "learning rate"


def draw_decoding(sources: Sources, experiment: Presentation) -> Figure:
    """Fig. 5: decoding performance of every embedding and subject, beside the controls."""
    data = pick_decoding(sources.table("decoding"))
    measures = list(MEASURES) if len(data) else ["r2_dimensions"]
    colours = subject_colours(experiment.subjects)
    figure, axes = style.new_figure(len(measures), 1, width=8.4, height=2.2 * len(measures) + 0.3)
    for measure, ax in zip(measures, axes, strict=True):
        part = data[data["measure"] == measure] if len(data) else data
        plots.plot_decoding(part, ax=ax, colours=colours)
        ax.set_ylabel(MEASURES[measure])
    if len(data):
        handles, names = axes[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside upper center", ncols=min(len(names), 6))
    return Figure(
        title="Decoding performance of the embeddings (Fig. 5)",
        caption="Bars: the decoder, for each embedding and subject; the thin line is one standard "
        "deviation over dimensions (upper two) or test images (lower two). z is the autoencoder's "
        "latent, c the text embedding, g the guidance features by CLIP layer. Marks on a bar say "
        "what others score on the same images: ridge regression, a decoder trained from scratch "
        "for as many steps as finetuning, and a predictor that always answers with the mean "
        "training feature. "
        "Raw values over dimensions are inflated by what all images share, which the mean feature "
        "has too; centred ones are taken after that mean has been subtracted from both sides. "
        "Below −1 the axis is logarithmic, so that no bar or mark is cut off; a standard deviation "
        f"may be. {_tell_below_mean(data)}".rstrip(),
        alt=_tell_decoding(data),
        data=data,
        image=style.encode_figure(figure),
    )


def pick_decoding(decoding: pd.DataFrame) -> pd.DataFrame:
    """The decoder's values on test images, a column per other predictor beside them."""
    if decoding.empty:
        return decoding
    keys = ["target", "measure", "subject"]
    shown = decoding[
        (decoding["split"] == TEST)
        & (decoding["target"] != LAYER_MEAN)
        & decoding["measure"].isin(MEASURES)
    ]
    beside = shown.set_index([*keys, "predictor"])["value"].unstack("predictor")
    names = [name for name in style.PREDICTOR_LOOKS if name in beside]
    chosen = shown[shown["predictor"] == DECODER].drop(columns=["predictor", "split"])
    ordered = chosen.sort_values("target", key=lambda t: t.map(labels.rank_target), kind="stable")
    return (
        ordered.join(beside[names], on=keys)
        .assign(label=ordered["target"].map(labels.label_target))
        .reset_index(drop=True)
    )


def _tell_below_mean(data: pd.DataFrame) -> str:
    """Which targets are predicted worse than by always answering with their mean."""
    if data.empty or "mean_feature" not in data:
        return ""
    of_variance = data[data["measure"] == "r2_dimensions"]
    worse = of_variance[of_variance["value"] < of_variance["mean_feature"]]
    if worse.empty:
        return "No target has a smaller R² than the mean training feature has."
    told = [
        f"{row.label} of {row.subject} ({words.write_number(row.value)} against "
        f"{words.write_number(row.mean_feature)})"
        for row in worse.itertuples()
    ]
    return f"In R² these are predicted worse than by the mean feature: {words.join_words(told)}."


def subject_colours(subjects: Iterable[str]) -> dict[str, str]:
    """A colour per subject."""
    shades = style.SUBJECT_COLOURS
    return {name: shades[i % len(shades)] for i, name in enumerate(subjects)}


def _tell_decoding(data: pd.DataFrame) -> str:
    if data.empty:
        return "No decoder has been evaluated."
    part = data[data["measure"] == "pearson_dimensions"]
    told = [
        f"{label} {words.write_number(rows['value'].mean())} ({_tell_beside(rows)})"
        for label, rows in part.groupby("label", sort=False)
    ]
    return (
        f"Pearson r over images, averaged over subjects: {', '.join(told)}. "
        f"{_tell_below_mean(data)}"
    ).rstrip()


def _tell_beside(rows: pd.DataFrame) -> str:
    told = [
        f"{labels.label_predictor(name)} {words.write_number(rows[name].mean())}"
        for name in style.PREDICTOR_LOOKS
        if name in rows and rows[name].notna().any()
    ]
    return ", ".join(told)


def draw_retrieval(sources: Sources, experiment: Presentation) -> Figure:  # noqa: ARG001
    """Image and brain retrieval by each embedding, alone and together, beside the controls."""
    data = pick_retrieval(sources.table("predictors"), read_chances(sources))
    rows = data["method"].nunique() if len(data) else 3
    figure, axes = style.new_figure(2, 2, width=8.6, height=1.2 + 0.56 * rows)
    panels = [(pool, way) for pool in (DRAWN, ALL) for way in ("image", "brain")]
    for (pool, direction), ax in zip(panels, axes, strict=True):
        part = (
            data[(data["pool"] == pool) & (data["direction"] == direction)] if len(data) else data
        )
        plots.plot_retrieval(part, ax=ax)
        ax.set_title(f"{direction.capitalize()} retrieval")
        if len(part):
            ax.set_title(f"{direction.capitalize()} retrieval, {_tell_pool(part)}")
            ax.set_xlabel("top-1 accuracy (%)" if pool == ALL else "")
            if direction == "brain":
                ax.set_yticklabels([])
    if len(data):
        handles = axes[0].get_legend_handles_labels()
        figure.legend(*handles, loc="outside lower center", ncols=4)
    return Figure(
        title="Retrieval",
        caption="Image retrieval: given a brain, find its image among test images; brain "
        "retrieval: given an image, find its brain (the peers' code exchanges the two labels). "
        "Upper row: among randomly drawn candidates, as published; lower row: among all test "
        "images. Points are means over subjects, of one training each, with bootstrap intervals "
        "over images; the dashed line is chance. Decoders retrieve with their projections, by "
        "cosine; ridge regression has none and retrieves with its embeddings, by the cosine of "
        "what they add to the mean training feature.",
        alt=_tell_retrieval(data),
        data=data,
        image=style.encode_figure(figure),
    )


def pick_retrieval(predictors: pd.DataFrame, chances: pd.DataFrame) -> pd.DataFrame:
    """Accuracies on test images in percent: text alone first, then the vote, then single layers."""
    if predictors.empty:
        return predictors
    parsed = contrasts.parse_retrieval(predictors["measure"])
    table = predictors.join(parsed)
    chosen = table[
        (table["split"] == TEST)
        & table["direction"].isin(("image", "brain"))
        & table["embedding"].isna()
    ]
    percent = {name: chosen[name] * 100 for name in ("mean", "low", "high")}
    ordered = chosen.assign(**percent).sort_values(
        "method", key=lambda names: names.map(labels.rank_method), kind="stable"
    )
    named = ordered.assign(method=ordered["method"].map(labels.label_method))
    columns = ["pool", "direction", "method", "predictor", "mean", "low", "high", "n"]
    joined = named[columns].join(chances, on="pool")
    return joined.assign(chance=joined["chance"] * 100).reset_index(drop=True)


def _tell_pool(part: pd.DataFrame) -> str:
    number = words.group_thousands(part["candidates"].iloc[0])
    return f"among {number} drawn" if part["pool"].iloc[0] == DRAWN else f"among all {number}"


def _tell_retrieval(data: pd.DataFrame) -> str:
    if data.empty:
        return "No retrieval has been evaluated."
    told = []
    shown = data[data["method"].isin([labels.label_method(m) for m in ("clip_text", VOTE)])]
    for (pool, direction, method), rows in shown.groupby(
        ["pool", "direction", "method"], sort=False
    ):
        values = [
            f"{labels.label_predictor(row.predictor)} {words.write_number(row.mean)} %"
            for row in rows.itertuples()
        ]
        told.append(f"{direction} retrieval by {method}, {pool} candidates: {', '.join(values)}")
    chances = data.drop_duplicates("pool")
    chance = [f"{words.write_number(row.chance)} % ({row.pool})" for row in chances.itertuples()]
    return f"{'; '.join(told)}. Chance: {', '.join(chance)}."


def draw_predictor_differences(sources: Sources, experiment: Presentation) -> Figure:  # noqa: ARG001
    """What finetuning after pretraining gains over each control, image by image."""
    data = pick_predictor_differences(sources.table("predictor_comparisons"))
    rows = data["label"].nunique() if len(data) else 3
    figure, axes = style.new_figure(1, 2, width=9.2, height=1.3 + 0.36 * rows)
    colours = {
        f"decoder {words.MINUS} {labels.label_predictor(name)}": style.PREDICTOR_LOOKS[name][
            "color"
        ]
        for name in contrasts.CONTROLS
        if len(data) and name in set(data["second"])
    }
    for split, ax in zip(SPLITS, axes, strict=True):
        part = data[data["split"] == split] if len(data) else data
        plots.plot_differences(part, ax=ax, colours=colours)
        if len(part):
            ax.set_title(f"{split} images (n = {part['n'].max()})")
            ax.set_xlabel(plots.DIFFERENCE)
    if len(data):
        axes[1].set_yticklabels([])
        axes[1].sharex(axes[0])
        axes[0].autoscale(axis="x")
        handles = axes[0].get_legend_handles_labels()
        figure.legend(*handles, loc="outside lower center", ncols=len(colours))
    return Figure(
        title="The decoders beside their controls",
        caption="Each point is the mean over held-out images of the decoder's value minus a "
        "control's on the same image, averaged over the subjects who saw it; the line is the "
        "bootstrap interval over images, whoever saw them. Right of the vertical line the decoder "
        "is better. From scratch: the same network trained for as many steps as finetuning; the "
        "decoder had the steps of pretraining besides. Every network was trained once, from one "
        "seed: the intervals tell what other images would change, not what another training would. "
        "Retrieval is among all images of the kind, as a share identified. Retrieval of embeddings "
        "compares like with like: both by the embeddings that reconstruction uses. Neither kind of "
        "image was seen in finetuning.",
        alt=_tell_predictor_differences(data),
        data=data,
        image=style.encode_figure(figure),
    )


def pick_predictor_differences(comparisons: pd.DataFrame) -> pd.DataFrame:
    """The shown comparisons over all subjects, in the figure's order, with readable names."""
    columns = ["label", "comparison", "split", "second", "measure"]
    columns += ["mean_first", "mean_second", "difference", "low", "high", "n", "unit"]
    if comparisons.empty:
        return pd.DataFrame(columns=columns)
    rank = {name: number for number, name in enumerate(CONTRASTED)}
    chosen = comparisons[
        (comparisons["subject"] == contrasts.ALL_SUBJECTS) & comparisons["measure"].isin(rank)
    ].sort_values("measure", key=lambda names: names.map(rank), kind="stable")
    controls = chosen["second"].map(labels.label_predictor)
    named = chosen.assign(
        label=chosen["measure"].map(labels.label_measure),
        comparison=f"decoder {words.MINUS} " + controls,
    )
    return named[columns].reset_index(drop=True)


def _tell_predictor_differences(data: pd.DataFrame) -> str:
    if data.empty:
        return "The decoders have not been compared with a control."
    told = []
    for comparison, rows in data[data["split"] == TEST].groupby("comparison", sort=False):
        values = [
            f"{row.label} "
            + words.write_estimate(row.difference, row.low, row.high, unit=row.unit, signed=True)
            for row in rows.itertuples()
        ]
        told.append(f"{comparison} on test images: {', '.join(values)}")
    return "; ".join(told) + "."


def draw_training_curves(sources: Sources, experiment: Presentation) -> Figure:  # noqa: ARG001
    """Loss, its parts and the learning rate of every training."""
    data = pick_curves(sources)
    panels = list(dict.fromkeys(data["panel"])) if len(data) else ["none"]
    columns = 3
    lines = -(-len(panels) // columns)
    figure, axes = style.new_figure(lines, columns, width=9.2, height=2.1 * lines + 0.6)
    for number, ax in enumerate(axes):
        if number >= len(panels):
            ax.set_axis_off()
            continue
        part = data[data["panel"] == panels[number]] if len(data) else data
        plots.plot_curves(part, ax=ax)
        if len(data):
            ax.set_title(panels[number])
            if panels[number] != RATE:
                plots.scale_logarithmically(ax)
            ax.set_xlabel("step" if number >= len(panels) - columns else "")
    if len(data):
        handles = plots.curve_handles(data)
        figure.legend(handles=handles, loc="outside lower center", ncols=3, handlelength=3)
    return Figure(
        title="Training of the decoders",
        caption="Training loss and its parts over steps for each embedding, on a logarithmic "
        "scale, and the learning rate, which all embeddings share: pretraining on the other "
        "subjects, finetuning on the subject itself and, where it ran, the control from scratch; a "
        "line per subject, each point a mean over consecutive steps. The contrastive loss changes "
        "part of the way, so a step in its curve is expected.",
        alt=_tell_curves(data),
        data=data,
        image=style.encode_figure(figure),
    )


def pick_curves(sources: Sources) -> pd.DataFrame:
    """Thinned curves in long form: panel, target, subject, stage, series, step, value."""
    tables = sorted(
        _read_curves(sources), key=lambda table: labels.rank_target(table["target"].iloc[0])
    )
    if not tables:
        return pd.DataFrame(columns=["panel", "target", "subject", "stage", "series"])
    keys = ["target", "subject", "stage", "step"]
    long = pd.concat(tables, ignore_index=True).melt(keys, var_name="series").dropna()
    rates = long[long["series"] == "learning_rate"]
    rates = rates.drop_duplicates(["subject", "stage", "step"]).assign(panel=RATE)
    losses = long[long["series"].isin(plots.SERIES_LOOKS)]
    named = losses.assign(panel=losses["target"].map(labels.label_target))
    order = named.sort_values("target", key=lambda t: t.map(labels.rank_target), kind="stable")
    return pd.concat([order, rates], ignore_index=True)


def _read_curves(sources: Sources) -> Iterator[pd.DataFrame]:
    for kind in ("curves", "control_curves"):
        for who, path in sources.files(kind):
            yield thin_curve(storage.read_table(path)).assign(**who)


def thin_curve(curve: pd.DataFrame, points: int = POINTS) -> pd.DataFrame:
    """Means over runs of consecutive steps, so that at most ``points`` rows are left."""
    run = -(-len(curve) // points)
    return curve.groupby(np.arange(len(curve)) // run).mean()


def _tell_curves(data: pd.DataFrame) -> str:
    if data.empty:
        return "No decoder has been trained."
    losses = data[(data["series"] == "loss") & (data["stage"] == "finetuned")]
    ends = losses.sort_values("step").groupby("panel", sort=False)["value"].agg(["first", "last"])
    told = [
        f"{panel} {words.write_number(ends.loc[panel, 'first'])} to "
        f"{words.write_number(ends.loc[panel, 'last'])}"
        for panel in dict.fromkeys(losses["panel"])
    ]
    return "Loss at the start and the end of finetuning: " + ", ".join(told) + "."
