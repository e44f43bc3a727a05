"""The tables: our values, the paper's values, and what is still to come.

A table is a long list of entries, one per row, column and origin. The CSV file holds these entries
with every digit; Markdown, LaTeX and the report lay the same entries out.

Where the experiment is the paper's (``report.paper_values: comparable``), ours and the paper's
stand in one table with their difference; elsewhere the paper's values are context, in a part of
their own.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from neuraldiffuser import storage, words
from neuraldiffuser.config.reconstruction import STIMULUS
from neuraldiffuser.config.report import Presentation
from neuraldiffuser.evaluation.contrasts import CONTROLS, parse_retrieval
from neuraldiffuser.evaluation.metrics import AREAS, brain_metric
from neuraldiffuser.evaluation.predictors import ALL, DECODER, DRAWN, TEST, VOTE
from neuraldiffuser.reporting import costs, labels, published
from neuraldiffuser.reporting.published import (
    ENTRY,
    METHOD,
    PAPER,
    describe_metric,
    name_hyperparameters,
    name_retrieval_row,
    name_size_row,
    read_paper,
)
from neuraldiffuser.reporting.sources import Sources, find_files, read_chances

OURS, PENDING = "ours", "pending"
SCORED_BY_ITS_GUIDE = (
    "guided by the encoder that scores it, so this brain correlation says how well the guidance "
    "was followed, not how good the image is"
)
OF_ONE_REPEAT = (
    "identified from one repeat, where all repeats of an image act together elsewhere, so this "
    "identification is not comparable with the other rows of ours; MindEye's, which is, stands in "
    "evaluation/summary.csv"
)
OF_BEST_REPEAT = (
    "of the best repeat of each image by this very metric, which needs the stimulus to choose: an "
    "upper bound, not a result"
)
MARKS = {
    SCORED_BY_ITS_GUIDE: labels.SCORED,
    OF_ONE_REPEAT: labels.SINGLE,
    OF_BEST_REPEAT: labels.CHOSEN,
}


@dataclass(frozen=True)
class Table:
    """A table's title, caption and entries; ``metrics_in_rows`` says how it is laid out."""

    title: str
    caption: str
    entries: pd.DataFrame
    metrics_in_rows: bool = True


def _keep_rows(experiment: Presentation) -> dict[str, str]:  # noqa: ARG001
    """No row is shown under another name."""
    return {}


@dataclass(frozen=True)
class Recipe:
    """How a table is made: its words, the paper's files and how their rows are named, our rows.

    Attributes:
        name_rows: of rows that meet the paper's: the name they are shown under.
    """

    title: str
    caption: str
    papers: Mapping[str, Callable[[pd.DataFrame, Presentation], pd.Series]]
    pick: Callable[[Sources, Presentation], pd.DataFrame]
    metrics_in_rows: bool = True
    name_rows: Callable[[Presentation], dict[str, str]] = _keep_rows


def make_table(name: str, *, sources: Sources, experiment: Presentation, paper: Path) -> Table:
    """The table ``name`` of the paper in this experiment's numbers.

    Args:
        name: a key of TABLES.
        sources: summary and retrieval.
        experiment: configuration behind the names.
        paper: the folder with the paper's tables.
    """
    recipe = TABLES[name]
    ours = recipe.pick(sources, experiment).reindex(columns=ENTRY)
    papers = [
        read_paper(paper / file, name_rows, experiment) for file, name_rows in recipe.papers.items()
    ]
    theirs = pd.concat(papers, ignore_index=True) if papers else pd.DataFrame(columns=ENTRY)
    if experiment.comparable:
        ours = add_differences(ours, theirs)
    entries = pd.concat([part for part in (ours, theirs) if len(part)], ignore_index=True)
    named = experiment.comparable | (entries["origin"] != PAPER)
    shown = entries["row"].replace(recipe.name_rows(experiment)).where(named, entries["row"])
    return _complete(name, entries.assign(row=shown), experiment)


def _complete(name: str, entries: pd.DataFrame, experiment: Presentation) -> Table:
    """The table of the entries, its caption with what they need to be understood."""
    recipe = TABLES[name]
    told = [recipe.caption]
    ours = entries[entries["origin"] == OURS]
    if ours["group"].eq(labels.BRAIN).any():
        told.append(labels.tell_brain_convention(experiment))
    counts = ours.loc[ours["low"].notna(), "n"].dropna()
    if len(counts):
        told.append(_tell_intervals(counts, level=experiment.interval_level))
    return Table(recipe.title, " ".join(told), entries, recipe.metrics_in_rows)


def _tell_intervals(counts: pd.Series, *, level: float) -> str:
    fewest, most = counts.min(), counts.max()
    shown = words.write_count(most, "test image")
    if fewest < most:
        shown = f"{words.group_thousands(fewest)} to {shown}"
    return f"Brackets: {100 * level:g} % bootstrap intervals over {shown}."


def read_table(name: str, path: Path, experiment: Presentation) -> Table:
    """A table from the CSV file of its entries."""
    entries = storage.read_table(path)
    text = ["origin", "row", "note"]
    entries[text] = entries[text].astype(object).fillna("").astype(str)
    return _complete(name, entries, experiment)


def add_differences(ours: pd.DataFrame, paper: pd.DataFrame) -> pd.DataFrame:
    """Ours with the difference to the paper's value of the same row and metric, if any."""
    theirs = paper.set_index(["row", "metric"])["value"]
    places = pd.MultiIndex.from_frame(ours[["row", "metric"]])
    values = theirs[~theirs.index.duplicated()].reindex(places).to_numpy()
    inside = (ours["low"] <= values) & (values <= ours["high"])
    known = ~pd.isna(values) & ours["value"].notna() & ours["low"].notna()
    return ours.assign(
        difference=ours["value"] - values,
        within=inside.map({True: "yes", False: "no"}).where(known, ""),
    )


def pick_headline(sources: Sources, experiment: Presentation) -> pd.DataFrame:
    """Table 1: the headline variant over all subjects, and its selections of one repeat."""
    headline = experiment.report.headline
    names = {headline: METHOD} | {
        name: _name_selection(name, experiment)
        for name, selection in experiment.selections.items()
        if selection.of == headline
    }
    summary = _summary_entries(sources, experiment)
    chosen = summary[
        summary["variant"].isin(names)
        & (summary["subject"] == "all")
        & summary["group"].isin((labels.LOW, labels.HIGH))
    ]
    rank = list(names).index
    chosen = chosen.sort_values("variant", key=lambda v: v.map(rank), kind="stable")
    retrieval = _pooled_retrieval(sources, experiment).assign(variant=headline)
    both = pd.concat([chosen, retrieval], ignore_index=True)
    aggregated = _aggregation_entries(sources, experiment)
    shown = aggregated["group"].isin((labels.LOW, labels.HIGH))
    ours = _as_entries(both, both["variant"].map(names))
    return pd.concat([ours, aggregated[shown]], ignore_index=True)


def _name_selection(name: str, experiment: Presentation) -> str:
    return f"{labels.label_variant(name)}: {labels.label_selection(experiment.selections[name])}"


def _aggregation_entries(sources: Sources, experiment: Presentation) -> pd.DataFrame:
    """Other ways to average the headline variant: as the paper, and over the best repeats."""
    found, row = sources.table("aggregations"), labels.label_variant(experiment.report.headline)
    known = labels.choose_metrics(experiment)
    found = found[found["variant"].eq(experiment.report.headline) & found["metric"].isin(known)]
    found = found.sort_values("metric", key=lambda m: m.map(list(known).index), kind="stable")
    described = [describe_metric(name, experiment) for name in found["metric"]]
    head = found[["metric", "n"]].reset_index(drop=True).join(pd.DataFrame(described))
    columns = found.reset_index(drop=True)
    as_paper = head.assign(
        row=f"{row}, {AS_THE_PAPER}", value=columns["paper"], spread=columns["spread"]
    )
    of_best = head.assign(
        row=f"{row}, best of {columns['repeats'].max()} {BY_ITSELF}",
        value=columns["best"],
        low=columns["best_low"],
        high=columns["best_high"],
        note=OF_BEST_REPEAT,
    )
    both = pd.concat([as_paper, of_best], ignore_index=True).assign(origin=OURS)
    return both.loc[both["value"].notna()].reindex(columns=ENTRY)


def _pooled_retrieval(sources: Sources, experiment: Presentation) -> pd.DataFrame:
    """Retrieval by the decoder and the vote of the guidance layers, over all subjects."""
    found = pick_predictors(sources)
    known = [f"{direction}_retrieval" for direction in ("image", "brain")]
    wanted = (found["method"] == VOTE) & (found["predictor"] == DECODER)
    chosen = found[wanted & found["metric"].isin(known)].rename(columns={"mean": "value"})
    described = [describe_metric(name, experiment) for name in chosen["metric"]]
    head = chosen[["metric", "value", "low", "high", "n"]].reset_index(drop=True)
    return head.join(pd.DataFrame(described)).assign(note="mean over subjects")


def pick_variants(sources: Sources, experiment: Presentation) -> pd.DataFrame:
    """Table 2: every variant that decodes brains, over all subjects; of the sweep, also pending."""
    summary = _summary_entries(sources, experiment)
    brain = labels.order_by_guidance(
        (name for name, variant in experiment.variants.items() if variant.source == "brain"),
        experiment.variants,
    )
    names = {name: name_variant_row(name, experiment) for name in brain}
    everybody = summary[summary["subject"] == "all"]
    parts = []
    for name, row in names.items():
        parts.append(_as_entries(everybody[everybody["variant"] == name], row))
        if name == experiment.report.headline:
            aggregated = _aggregation_entries(sources, experiment)
            parts.append(aggregated[aggregated["row"].str.endswith(AS_THE_PAPER)])
    parts.append(_as_entries(everybody[everybody["variant"] == STIMULUS], THE_STIMULUS))
    waiting = [
        {"origin": PENDING, "row": names[name], "note": "pending: not run in this experiment"}
        for name in brain
        if name not in experiment.run and _belongs_to_table_2(name, experiment)
    ]
    parts.append(pd.DataFrame(waiting))
    return pd.concat([part for part in parts if len(part)], ignore_index=True)


def _belongs_to_table_2(name: str, experiment: Presentation) -> bool:
    is_control = experiment.variants[name].features != "own"
    return is_control or labels.is_of_sweep(name, experiment)


def pick_subjects(sources: Sources, experiment: Presentation) -> pd.DataFrame:
    """Table 3: the headline variant for each subject, and retrieval."""
    summary = _summary_entries(sources, experiment)
    chosen = summary[
        (summary["variant"] == experiment.report.headline)
        & summary["subject"].isin(experiment.subjects)
    ]
    both = pd.concat([chosen, _retrieval_entries(sources, experiment)], ignore_index=True)
    return _as_entries(both, both["subject"] if len(both) else pd.Series(dtype=str))


def pick_brain_guidance(sources: Sources, experiment: Presentation) -> pd.DataFrame:
    """Table 4: guidance by the brain-encoding model for each subject, the headline beside it."""
    if BRAIN_ENCODING not in experiment.run:
        note = f"pending: the variant {BRAIN_ENCODING} is not run in this experiment"
        return pd.DataFrame(
            [{"origin": PENDING, "row": subject, "note": note} for subject in experiment.subjects]
        )
    headline = experiment.report.headline
    beside = {
        BRAIN_ENCODING: {subject: subject for subject in experiment.subjects},
        headline: {who: f"{who}, {labels.label_variant(headline)}" for who in experiment.subjects},
        STIMULUS: {who: f"{who}, {THE_STIMULUS}" for who in experiment.subjects},
    }
    summary = _summary_entries(sources, experiment)
    parts = []
    for variant, names in beside.items():
        chosen = summary[(summary["variant"] == variant) & summary["subject"].isin(names)]
        parts.append(_as_entries(chosen, chosen["subject"].map(names)))
    return pd.concat(parts, ignore_index=True)


def pick_brain_conventions(sources: Sources, experiment: Presentation) -> pd.DataFrame:
    """Brain correlations of the main variants and the stimuli both ways round, over all subjects.

    Where voxels that guide nothing judge, over these.
    """
    summary, report = sources.table("summary"), experiment.report
    judged = labels.is_judged_apart(summary, experiment)
    described = {
        brain_metric(area, direction, of_ceiling=of_ceiling, judged=judged): (label, group)
        for (direction, of_ceiling), group in labels.BRAIN_WAYS.items()
        for area, (label, _) in AREAS.items()
    }
    shown = [STIMULUS, *experiment.ran((report.headline, report.baseline, *report.controls))]
    names = {name: labels.label_variant(name) for name in shown} | {STIMULUS: THE_STIMULUS}
    chosen = summary[
        (summary["subject"] == "all")
        & summary["metric"].isin(described)
        & summary["variant"].isin(names)
    ]
    order = chosen["metric"].map(list(described).index)
    ranked = chosen.assign(order=order, rank=chosen["variant"].map(shown.index))
    ranked = ranked.sort_values(["rank", "order"]).rename(columns={"mean": "value"})
    scored = ranked["variant"].isin(labels.list_scored(summary, experiment))
    note = labels.JUDGED_APART if judged else ""
    return _as_entries(
        ranked.assign(
            label=[described[name][0] for name in ranked["metric"]],
            group=[described[name][1] for name in ranked["metric"]],
            note=pd.Series(note, index=ranked.index).mask(scored, SCORED_BY_ITS_GUIDE),
        ),
        ranked["variant"].map(names),
    )


def pick_retrieval(sources: Sources, experiment: Presentation) -> pd.DataFrame:
    """Retrieval over all subjects by each embedding alone and by the vote, for every predictor."""
    chosen = pick_predictors(sources)
    entries = [
        {
            "row": name_retrieval_row(row.method, row.predictor),
            "metric": row.metric,
            "value": row.mean,
            "low": row.low,
            "high": row.high,
            "n": row.n,
        }
        | describe_metric(row.metric, experiment)
        for row in chosen.itertuples()
    ]
    return pd.DataFrame([*entries, *_list_chances(sources, experiment)]).assign(origin=OURS)


def _list_chances(sources: Sources, experiment: Presentation) -> list[dict]:
    """What guessing retrieves, in every column."""
    return [
        {
            "row": CHANCE,
            "metric": f"{direction}_retrieval{POOL_ENDINGS[pool]}",
            "value": found.chance,
            "note": f"1 among {found.candidates:.0f}",
        }
        | describe_metric(f"{direction}_retrieval{POOL_ENDINGS[pool]}", experiment)
        for pool, found in read_chances(sources).iterrows()
        for direction in ("image", "brain")
    ]


def pick_predictors(sources: Sources) -> pd.DataFrame:
    """Retrieval of test images by what each predictor retrieves with, as metrics of the tables."""
    table = sources.table("predictors")
    parsed = table.join(parse_retrieval(table["measure"]))
    chosen = parsed[
        (parsed["split"] == TEST)
        & parsed["direction"].isin(("image", "brain"))
        & parsed["embedding"].isna()
    ]
    ending = chosen["pool"].map(POOL_ENDINGS)
    order = {name: rank for rank, name in enumerate((DECODER, *CONTROLS))}
    return chosen.assign(metric=chosen["direction"] + "_retrieval" + ending).sort_values(
        ["method", "predictor"],
        key=lambda names: names.map(order if names.name == "predictor" else labels.rank_method),
        kind="stable",
    )


def pick_sizes(sources: Sources, experiment: Presentation) -> pd.DataFrame:
    """Weights of one subject's decoders, in millions, all and trained, in both stages."""
    from neuraldiffuser.reporting.decoder_sizes import measure_size  # torch takes seconds

    counted = pd.DataFrame(
        [
            {
                "row": name_size_row(who["target"]),
                "metric": f"{kind}_{STAGE_ENDINGS[who['stage']]}",
                "value": count / 1e6,
            }
            for who, path in sorted(sources.files("decoders"), key=_rank_decoder)
            for kind, count in asdict(measure_size(path)).items()
        ]
    )
    sums = counted[counted["row"] != name_size_row("vae_latent")].groupby("metric")["value"].sum()
    single = counted.drop_duplicates(["row", "metric"])  # guidance layers are of one size
    whole = sums.reset_index().assign(row=name_size_row("all"))
    entries = pd.concat([single, whole], ignore_index=True)
    described = [describe_metric(name, experiment) for name in entries["metric"]]
    return entries.join(pd.DataFrame(described)).assign(origin=OURS)


def pick_costs(sources: Sources, experiment: Presentation) -> pd.DataFrame:
    """What training a decoder and sampling an image took, in whole jobs."""
    report = experiment.report
    variants = {"guided_seconds": report.headline, "unguided_seconds": report.baseline}
    made = {
        name: find_files(sources, "reconstructions", variant=experiment.maker(variant))
        for name, variant in variants.items()
    }
    made["training_hours"] = [path for _, path in sources.files("decoders")]
    decoders = {who["target"] for who, _ in sources.files("decoders")}
    units = {name: costs.count_images(made[name]) for name in variants}
    units["training_hours"] = 3600 * len(decoders)
    found = {name: costs.add_up(paths) for name, paths in made.items() if units[name]}
    devices = dict.fromkeys(device for cost in found.values() for device in cost.devices)
    entries = [
        {"metric": name, "value": cost.seconds / units[name]} | describe_metric(name, experiment)
        for name, cost in found.items()
    ]
    row = f"this experiment, {words.join_words(list(devices)) or 'unknown device'}"
    return pd.DataFrame(entries).assign(origin=OURS, row=row)


def _rank_decoder(found: tuple[dict[str, str], Path]) -> tuple[int, int]:
    who, _ = found
    return labels.rank_target(who["target"]), list(STAGE_ENDINGS).index(who["stage"])


BRAIN_ENCODING = "brain_encoding"
CHANCE = "chance"
AS_THE_PAPER = "averaged as in the paper"
THE_STIMULUS = "the stimulus itself"
BY_ITSELF = "by each metric itself"
POOL_ENDINGS = {DRAWN: "", ALL: "_all"}
STAGE_ENDINGS = {"pretrained": "pretraining", "finetuned": "subject"}


# How a table says what its two ways to average are.
WAYS = (
    "Intervals are over images, each averaged over repeats and subjects first; "
    f"\N{LEFT DOUBLE QUOTATION MARK}{AS_THE_PAPER}\N{RIGHT DOUBLE QUOTATION MARK} is the mean over "
    "subjects of their own means, ± their standard deviation. The two means differ only where "
    "subjects saw different images."
)


def _as_entries(rows: pd.DataFrame, row: pd.Series | str) -> pd.DataFrame:
    """Rows of ours as entries, metric by metric in the tables' order."""
    return rows.assign(origin=OURS, row=row).reindex(columns=ENTRY)


def _summary_entries(sources: Sources, experiment: Presentation) -> pd.DataFrame:
    """The summary in the tables' order, with the metrics' headings."""
    measured = sources.table("summary")
    summary = labels.take_judging_voxels(measured, experiment)
    order = {name: rank for rank, name in enumerate(labels.choose_metrics(experiment))}
    shown = summary[summary["metric"].isin(order)]
    ranked = shown.sort_values("metric", key=lambda names: names.map(order), kind="stable")
    described = pd.DataFrame(
        [describe_metric(name, experiment) for name in ranked["metric"]], index=ranked.index
    )
    brain = described["group"] == labels.BRAIN
    scored = brain & ranked["variant"].isin(labels.list_scored(measured, experiment))
    single = labels.find_single(ranked, experiment)
    notes = ranked["note"] if "note" in ranked else pd.Series(index=ranked.index, dtype=object)
    notes = notes.astype(object).mask(scored, SCORED_BY_ITS_GUIDE).mask(single, OF_ONE_REPEAT)
    return (
        ranked.drop(columns=described.columns, errors="ignore")
        .join(described)
        .rename(columns={"mean": "value"})
        .assign(note=notes)
    )


def _retrieval_entries(sources: Sources, experiment: Presentation) -> pd.DataFrame:
    """Retrieval by the vote of the guidance layers, per subject and direction."""
    retrieval = sources.table("retrieval")
    wanted = {"split": TEST, "predictor": DECODER, "output": "projection"}
    wanted |= {"method": VOTE, "pool": DRAWN}
    vote = retrieval[(retrieval[list(wanted)] == pd.Series(wanted)).all(axis=1)]
    entries = [
        {
            "subject": row.subject,
            "metric": f"{row.direction}_retrieval",
            "value": row.accuracy,
            "low": row.low,
            "high": row.high,
            "note": f"among {row.candidates}",
        }
        | describe_metric(f"{row.direction}_retrieval", experiment)
        for row in vote.itertuples()
    ]
    return pd.DataFrame(entries)


def name_variant_row(name: str, experiment: Presentation) -> str:
    """A variant by its scale and strength, so that it meets the paper's; a control by its name."""
    variant = experiment.variants[name]
    if name in experiment.selections:
        return _name_selection(name, experiment)
    if variant.features != "own":
        return labels.label_variant(name)
    if not labels.is_of_sweep(name, experiment):
        return f"{labels.label_functions(variant)}, η {variant.strength:g}"
    scale = labels.guidance_scale(name, experiment.variants)
    if scale is None:
        return f"κ × {variant.scale_factor:g}, η {variant.strength:g}"
    return name_hyperparameters(scale, variant.strength)


def name_method(experiment: Presentation) -> dict[str, str]:
    """The headline variant by its own name, the paper's beside it."""
    return {METHOD: f"{labels.label_variant(experiment.report.headline)} ({METHOD})"}


def name_main_variants(experiment: Presentation) -> dict[str, str]:
    """Baseline and headline variant by their names, scale and strength beside them."""
    main = experiment.report.baseline, experiment.report.headline
    rows = {name: name_variant_row(name, experiment) for name in main}
    return {row: f"{labels.label_variant(name)} ({row})" for name, row in rows.items()}


TABLES: Mapping[str, Recipe] = {
    "table1": Recipe(
        title="Table 1. Comparison with published methods",
        caption=f"Mean over repeats, subjects and test images. {WAYS} The rivals' values are as "
        "published; none was measured here.",
        papers={
            "table1_comparison.csv": published.name_by_method,
            "best_of_five.csv": published.name_best_of_five,
        },
        pick=pick_headline,
        metrics_in_rows=False,
        name_rows=name_method,
    ),
    "table2": Recipe(
        title="Table 2. Guidance scale and strength",
        caption="Guidance scale κ and strength η; κ 0 is no guidance, κ × 1 the scale calibrated "
        "on held-out training images. Below stand other guidance functions and selections of one "
        "repeat, where they were run, and the controls. Mean over repeats (of a selection, the "
        f"chosen ones), subjects and test images. {WAYS}",
        papers={"table2_guidance.csv": published.name_by_hyperparameters},
        pick=pick_variants,
        name_rows=name_main_variants,
    ),
    "table3": Recipe(
        title="Table 3. Each subject",
        caption="The headline variant for each subject: mean over repeats and test images; "
        "retrieval by the vote of the guidance layers.",
        papers={"table3_subjects.csv": published.name_by_subject},
        pick=pick_subjects,
    ),
    "table4": Recipe(
        title="Table 4. Guidance by a brain encoding model",
        caption="Guidance through a model that predicts brain responses, instead of CLIP layers: "
        "it draws predicted voxels towards the measured ones. Beside it the headline variant.",
        papers={"table4_brain_encoding_guidance.csv": published.name_by_subject},
        pick=pick_brain_guidance,
    ),
    "brain_conventions": Recipe(
        title="Brain correlation by both conventions",
        caption="An encoding model predicts the responses to an image; they are correlated with "
        "the measured ones, mean of the image's trials. Peers' code correlates over the voxels of "
        "an area, for each image; the paper's text says over images, for each voxel. The share "
        "divides by what a perfect model would be expected to reach with the voxels' noise: "
        "exact over images, an upper bound over voxels. V4 is hV4, Higher Vis. the rest of "
        "nsdgeneral, Whole Vis. all of it. Mean over repeats, subjects and test images.",
        papers={},
        pick=pick_brain_conventions,
    ),
    "retrieval_by_embedding": Recipe(
        title="Retrieval by each embedding",
        caption="Top-1 retrieval of test images, mean over subjects: among random candidates as in "
        "the paper, and among all test images; by the decoders and, on the same images, by their "
        "controls. Besides its tables the paper gives one pair of numbers, for the high-level "
        "pipeline alone (section 5.3). They are read here as those of its own text decoder: the "
        "sentence speaks of MindEye, to which Table 1 gives far more.",
        papers={"text_only_retrieval.csv": published.name_text_retrieval},
        pick=pick_retrieval,
        metrics_in_rows=False,
    ),
    "decoder_sizes": Recipe(
        title="Size of the decoders",
        caption="Weights in millions: in pretraining, with a voxel encoder for every other "
        "subject, and for one subject alone, the first; all of them, and those that are trained. "
        "Ours are counted in the networks that the decoders' files describe; the paper's are those "
        "of its section 6, which cuts decimals off. The channel blocks of the released mixer count "
        "among the paper's weights, but they never reach the output, so here they stay as they "
        "are.",
        papers={"model_cost.csv": published.name_by_size},
        pick=pick_sizes,
        metrics_in_rows=False,
    ),
    "cost": Recipe(
        title="Cost",
        caption="Training of one decoder, mean over the targets of the first subject, pretraining "
        "and finetuning; an image by the headline variant and by the baseline, mean over subjects, "
        "images and repeats. Ours are whole jobs, what loads models included, as the files' "
        "sidecars tell; the paper names one RTX 3090.",
        papers={"costs.csv": published.name_the_paper},
        pick=pick_costs,
    ),
}
