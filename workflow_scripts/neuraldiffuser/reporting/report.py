"""The report: one HTML file that opens offline and says what was found and how it was made.

Every number in it comes from a file of the workflow, every sentence from such numbers or from the
configuration; nothing depends on the clock, so the same results give the same bytes.
"""

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jinja2
import pandas as pd
import plotly.offline
from markupsafe import Markup

from neuraldiffuser import storage, words
from neuraldiffuser.config.base import lookup
from neuraldiffuser.config.description import Description
from neuraldiffuser.config.fidelity import (
    SWITCHES,
    Switch,
    compare_reading,
    name_reading,
    tell_effect,
    write_value,
)
from neuraldiffuser.evaluation.findings import tell_numbers
from neuraldiffuser.nsd.data_card import DataCard
from neuraldiffuser.reporting import data_section, labels, layout, tables
from neuraldiffuser.reporting.interactive import plot_figure
from neuraldiffuser.reporting.methods import write_methods
from neuraldiffuser.reporting.models_table import list_models
from neuraldiffuser.reporting.provenance_table import (
    list_costs,
    list_software,
    list_stages,
    tell_total,
    trace_sidecars,
)
from neuraldiffuser.reporting.sources import Sources, read_calibrations

CITATION = (
    "Haoyu Li, Hao Wu, Badong Chen: NeuralDiffuser: Neuroscience-inspired Diffusion Guidance for "
    "fMRI Visual Reconstruction, IEEE Transactions on Image Processing 34 (2025), 552-565,"
)
TOPICS = {  # of the sentences among the observations, in the report's order
    "guidance": "Guidance beside its controls",
    "sweep": "As guidance grows",
    "decoders": "The decoders beside their controls",
}
DATA = ("noise_ceiling",)
BACKGROUND = ("encoder_accuracy", "training_curves")
PICTURES = ("examples", *(f"figure{number}" for number in range(6, 12)))


@dataclass(frozen=True)
class Evidence:
    """The files a report is made from."""

    figures: Sequence[Path]
    tables: Sequence[Path]
    calibrations: Sequence[Path]
    models: Sequence[Path]
    region_pictures: Sequence[Path]
    findings: Path
    gallery: Path
    effects: Path
    data_card: Mapping[str, Path]

    @property
    def paths(self) -> list[Path]:
        """All that this experiment made."""
        pictures = [*self.figures, *self.region_pictures, self.gallery]
        tables = [*self.tables, *self.data_card.values(), *self.calibrations, self.findings]
        return [*map(Path, pictures), *map(Path, tables), *map(Path, self.models)]


def render_report(
    evidence: Evidence, *, description: Description, template: Path, style: Path, program: Path
) -> str:
    """The report as HTML.

    Args:
        evidence: figures (PNG, with their JSON beside them), tables (CSV), calibrations, receipts
            of the models, findings, the gallery's page, measured effects of switches, the data
            card's tables, and pictures of regions (like figures).
        description: the configuration behind them.
        template: the page in Jinja.
        style: its style sheet.
        program: its script.
    """
    findings = storage.read_json(evidence.findings)
    card = data_section.read_card(evidence.data_card)
    headings = _list_headings(description)
    figures = [embed_figure(Path(path), headings) for path in evidence.figures]
    shown_tables = [_show_table(Path(path), description) for path in evidence.tables]
    sidecars = trace_sidecars(evidence.paths)
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=False
    )
    page = environment.from_string(Path(template).read_text(encoding="utf-8"))
    return page.render(
        style=Markup(Path(style).read_text(encoding="utf-8")),
        plotly=Markup(plotly.offline.get_plotlyjs()),
        program=Markup(Path(program).read_text(encoding="utf-8")),
        **describe_experiment(description, card),
        **tell_findings(findings),
        how_to_read=tell_how_to_read(description),
        plots={figure["name"]: figure["plot"] for figure in figures if figure["plot"]},
        figures=[figure for figure in figures if figure["name"] not in (*DATA, *BACKGROUND)],
        background=[figure for figure in figures if figure["name"] in BACKGROUND],
        tables=shown_tables,
        methods=write_methods(description),
        citation=CITATION,
        **show_data(card, figures, evidence.region_pictures),
        calibrations=show_calibrations(Sources({"calibrations": evidence.calibrations})),
        models=show_frame(list_models(description.used_models, evidence.models)),
        switches=show_switches(description, storage.read_json(evidence.effects)),
        reading_words=tell_departures(description),
        stages=show_frame(list_stages(sidecars)),
        runs=show_runs(description),
        cost=show_frame(list_costs(sidecars)),
        total_time=tell_total(sidecars),
        software=show_frame(list_software(sidecars)),
        warnings=[
            *data_section.list_missing_sessions(card),
            *list_warnings(findings, shown_tables, unsigned=_unsigned(evidence)),
        ],
        not_run=tell_not_run(figures, shown_tables),
    )


def describe_experiment(description: Description, card: DataCard) -> dict[str, Any]:
    """Title, reading and the sentences that introduce the experiment."""
    reconstruction = description.reconstruction
    people = words.join_words(list(description.subjects))
    images = int(card.trials[card.trials["split"] == "test"]["images"].max())
    return {
        "title": description.report.title,
        "reading": name_reading(description),
        "comparable": description.presentation.comparable,
        "lead": (
            f"{words.write_count(images, 'test image')}, "
            f"{words.write_count(reconstruction.repeats, 'reconstruction')} of each, by "
            f"{words.write_count(len(reconstruction.run), 'variant')} of the method, from "
            f"{people}."
        ),
        "gallery_images": words.write_count(images, "test image"),
        "sheet_images": description.report.gallery_images,
        "sheets": [
            {
                "label": labels.label_variant(name),
                "subjects": _subjects_of(name, description),
                "name": name,
            }
            for name in reconstruction.run
        ],
    }


def _subjects_of(name: str, description: Description) -> tuple[str, ...]:
    from_brain = description.reconstruction.variant_of(name).source == "brain"
    return description.subjects if from_brain else ("stimulus",)


def tell_findings(findings: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Claims and observations as sentences, how many claims hold, and what is told by topic."""
    claims = [tell_finding(claim) | {"holds": claim["holds"]} for claim in findings["claims"]]
    held = sum(claim["holds"] for claim in claims)
    observed = findings["observations"]
    told = {about: [o["sentence"] for o in observed if o.get("about") == about] for about in TOPICS}
    if not claims:
        verdict = "This experiment makes no claim: what its claims need has not been run."
    elif held == len(claims):
        verdict = f"All {held} claims that the configuration names hold."
    else:
        verdict = f"{held} of {len(claims)} claims that the configuration names hold."
    return {
        "claims": claims,
        "verdict": verdict,
        "topics": [(TOPICS[about], sentences) for about, sentences in told.items() if sentences],
        "observations": [tell_finding(found) for found in observed if "sentence" not in found],
    }


def tell_how_to_read(description: Description) -> str:
    """What intervals, n, p and points of the findings are."""
    repeats = words.write_count(description.reconstruction.repeats, "repeat")
    subjects = words.write_count(len(description.subjects), "subject")
    return (
        f"Brackets are {100 * description.evaluation.bootstrap.level:g} % bootstrap intervals. n "
        "counts what they resample: test images, each averaged over "
        f"{repeats} and {subjects} first, unless a sentence is about one subject or voxels. "
        "\N{LEFT DOUBLE QUOTATION MARK}Measurably\N{RIGHT DOUBLE QUOTATION MARK} means that the "
        "interval excludes zero. p is of a sign-flip test that there is no difference, adjusted by "
        "Holm over the measures of one comparison. Differences of shares are in percentage points. "
        "What is claimed, and every threshold, stands in the configuration: it is part of the "
        "provenance and the same for every run of it."
    )


def tell_finding(finding: Mapping[str, Any]) -> dict[str, str]:
    """A claim or observation in words, and its numbers."""
    return {"sentence": words.capitalise(finding["name"]), "numbers": tell_numbers(finding)}


def embed_figure(path: Path, headings: Mapping[str, str] = MappingProxyType({})) -> dict[str, Any]:
    """A figure's words, its picture as a data address, and its plot where it has one."""
    told = storage.read_json(path.with_suffix(".json"))
    return told | {
        "name": path.stem,
        "source": embed(path),
        "crisp": path.stem in PICTURES,
        "plot": plot_figure(path.stem, path.with_suffix(".csv"), headings),
    }


def _list_headings(description: Description) -> dict[str, str]:
    known = labels.choose_metrics(description.presentation)
    return {name: labels.heading(metric) for name, metric in known.items()}


def embed(path: Path) -> str:
    """The bytes of a picture (PNG) as a data address."""
    encoded = base64.b64encode(path.read_bytes()).decode()
    return f"data:image/png;base64,{encoded}"


def _show_table(path: Path, description: Description) -> dict[str, Any]:
    table = tables.read_table(path.stem, path, description.presentation)
    comparable = description.presentation.comparable
    return {
        "name": path.stem,
        "title": table.title,
        "caption": table.caption,
        "notes": layout.list_notes(table),
        "pending": layout.list_pending(table),
        "not_computed": layout.list_not_computed(table),
        "parts": [_show_part(part) for part in layout.lay_out_parts(table, comparable=comparable)],
    }


def _show_part(part: layout.Part) -> dict[str, Any]:
    return {
        "title": part.title,
        "is_context": part.title == layout.PAPER_PART,
        "headings": part.headings,
        "lines": part.lines,
        "runs": layout.count_runs(part.groups) if any(part.groups) else [],
    }


def show_frame(frame: pd.DataFrame, headings: Sequence[str] | None = None) -> dict[str, Any]:
    """A table of texts for the page."""
    return {
        "headings": headings or [words.write_name(name) for name in frame.columns],
        "rows": frame.astype(str).to_numpy().tolist(),
    }


def show_data(
    card: DataCard, figures: Iterable[Mapping[str, Any]], region_pictures: Iterable[Path]
) -> dict[str, Any]:
    """The section on data: grids, figures, and a picture of each subject's regions."""
    return {
        "comparisons": data_section.tell_comparison(card),
        "data_parts": [
            _show_part(part) | {"caption": caption}
            for part, caption in data_section.lay_out_card(card)
        ],
        "data_figures": [figure for figure in figures if figure["name"] in DATA],
        "region_pictures": [embed_figure(Path(path)) for path in region_pictures],
    }


def show_runs(description: Description) -> dict[str, Any]:
    """What was run: every variant and selection in words."""
    reconstruction, variants = description.reconstruction, description.presentation.variants
    rows = []
    for name in reconstruction.run:
        does = labels.describe_variant(name, variants)
        if name in reconstruction.selections:
            does = f"{labels.label_selection(reconstruction.selections[name])}: {does}"
        rows.append((labels.label_variant(name), does))
    return show_frame(pd.DataFrame(rows, columns=["variant", "what it does"]))


def show_calibrations(sources: Sources) -> dict[str, Any] | None:
    """Calibrated guidance scales, or None if every scale was given."""
    found = read_calibrations(sources)
    if found.empty:
        return None
    shown = pd.DataFrame(
        {
            "variant": found["variant"].map(labels.label_variant),
            "function": found["function"].map(labels.label_function),
            "embeddings of": found["subject"].map(labels.label_subject),
            "scale κ": found["scale"].map(lambda value: f"{value:.4g}"),
            "ratio to the denoiser": found["ratio"].map(words.write_number),
        }
    )
    return show_frame(shown)


def show_switches(description: Description, effects: Mapping[str, Any]) -> dict[str, Any]:
    """Every switch with the value used, what each reading says, and what another value does."""
    rows = [
        (
            switch.key,
            switch.place,
            _plain(lookup(description, switch.key)),
            _plain(switch.released),
            _plain(switch.corrected),
            tell_effect(switch, effects),
        )
        for switch in SWITCHES
    ]
    return show_frame(
        pd.DataFrame(
            rows,
            columns=["key", "place", "here", "released", "corrected", "effect on the miniature"],
        )
    )


def _plain(value: Any) -> str:
    return write_value(value).strip("`")


def tell_departures(description: Description) -> str:
    """Whose reading the experiment is, and where it departs from it."""
    reading = name_reading(description).split()[0]
    departures = compare_reading(description, reading)
    if not departures:
        return f"Every switch stands as in the {reading} reading."
    told = words.join_words([_tell_departure(switch, description) for switch in departures])
    return f"Every switch stands as in the {reading} reading, but for {told}."


def _tell_departure(switch: Switch, description: Description) -> str:
    return f"{switch.key} ({_plain(lookup(description, switch.key))})"


def list_warnings(
    findings: Mapping[str, Sequence[Mapping[str, Any]]],
    shown_tables: Iterable[Mapping[str, Any]],
    *,
    unsigned: Sequence[Path],
) -> list[str]:
    """What went wrong or is missing although the experiment asks for it."""
    skipped = [note for table in shown_tables for note in table["not_computed"]]
    return [
        *(
            f"This claim does not hold: {claim['name']}."
            for claim in findings["claims"]
            if not claim["holds"]
        ),
        *dict.fromkeys(skipped),
        *(f"{path.name} has no provenance sidecar." for path in unsigned),
    ]


def tell_not_run(
    figures: Iterable[Mapping[str, Any]], shown_tables: Iterable[Mapping[str, Any]]
) -> str:
    """The figures that have nothing to show, and the tables that lack rows."""
    pending = [figure["title"] for figure in figures if figure["pending"]]
    partly = [f"rows of {table['title']}" for table in shown_tables if table["pending"]]
    return "; ".join([*pending, *partly])


def _unsigned(evidence: Evidence) -> list[Path]:
    """Files without a sidecar: nobody can say what made them."""
    return [path for path in evidence.paths if not trace_sidecars([path])]
