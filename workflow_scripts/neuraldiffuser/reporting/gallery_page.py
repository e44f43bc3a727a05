"""The gallery's page: what it can show, and the values by which it sorts and filters.

A page opened from a disk may load pictures and scripts, but no data: values are scripts that hand
themselves over (``addValues``), one per variant and subject, loaded when somebody looks at them.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd
from markupsafe import Markup

from neuraldiffuser import storage, words
from neuraldiffuser.config.report import Presentation
from neuraldiffuser.evaluation.long_form import ALL_REPEATS
from neuraldiffuser.evaluation.metrics import Metric, list_ensembled, metrics_of
from neuraldiffuser.reporting import labels
from neuraldiffuser.reporting.sources import Sources
from neuraldiffuser.reporting.style import variant_colours

DIGITS = 4  # of a value


@dataclass(frozen=True)
class Page:
    """The files of the page: its template in Jinja, its style sheet and its program."""

    template: Path
    style: Path
    program: Path

    def render(self, gallery: Mapping[str, Any]) -> str:
        """The page as HTML, with everything but pictures and values inside."""
        environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
        template = environment.from_string(Path(self.template).read_text(encoding="utf-8"))
        return template.render(
            gallery=gallery,
            style=Markup(Path(self.style).read_text(encoding="utf-8")),
            program=Markup(Path(self.program).read_text(encoding="utf-8")),
        )


def describe_gallery(
    sources: Sources,
    experiment: Presentation,
    names: Mapping[str, str],
    *,
    measured: Collection[str],
) -> dict[str, Any]:
    """What the page can show: images, variants, subjects, runs and metrics, by name.

    Args:
        sources: the kind "thumbnails" (what stands in their folders).
        experiment: what names and orders them.
        names: by metric, the name under which the chosen convention was measured.
        measured: the metrics that have values; others are not offered.
    """
    contents = {tuple(who.values()): storage.read_json(p) for who, p in sources.files("thumbnails")}
    shown = [name for name in experiment.run if name in {variant for variant, _ in contents}]
    colours = variant_colours(shown)
    ensembled = list_ensembled(experiment.judges, experiment.identification)
    return {
        "title": experiment.report.title,
        "publishable": not experiment.comparable,
        "enlarged": experiment.report.enlarged_pixels,
        "ids": sorted({number for found in contents.values() for number in found["ids"]}),
        "start": experiment.ran([experiment.report.headline, experiment.report.baseline]),
        "variants": [
            {
                "name": name,
                "label": labels.label_variant(name),
                "phrase": describe_run(name, experiment),
                "colour": colours[name],
            }
            for name in shown
        ],
        "subjects": [
            {"name": name, "label": labels.label_subject(name)} for name in experiment.subjects
        ],
        "runs": [
            {"variant": variant, "subject": subject, "repeats": found["repeats"]}
            for variant in shown
            for (name, subject), found in contents.items()
            if name == variant
        ],
        "metrics": [
            {
                "name": metric.name,
                "label": metric.label,
                "group": labels.group_of(metric),
                "higher": metric.higher_is_better,
                "percent": metric.unit in words.PERCENT_UNITS,
                "together": metric.kind == "repeats" or metric.name in ensembled,
            }
            for metric in choose_metrics(experiment, names).values()
            if metric.name in measured
        ],
    }


def describe_run(name: str, experiment: Presentation) -> str:
    """What a variant does; of a selection, also by what it chooses."""
    does = labels.describe_variant(name, experiment.variants)
    chosen = experiment.selections.get(name)
    return f"{labels.label_selection(chosen)}: {does}" if chosen else does


def choose_metrics(experiment: Presentation, names: Mapping[str, str]) -> dict[str, Metric]:
    """The metrics of single images that an experiment shows, by name and in order."""
    known, chosen = metrics_of(experiment.judges), labels.choose_metrics(experiment)
    return {
        name: metric for name, metric in chosen.items() if known[names.get(name, name)].is_of_images
    }


def read_values(
    sources: Sources,
    experiment: Presentation,
    names: Mapping[str, str],
    *,
    variant: str,
    subject: str,
) -> dict[str, Any]:
    """The values of one variant and subject by image and repeat.

    Args:
        sources: the kinds "images" and "brains" (long form).
        experiment: which metrics are shown.
        names: by metric, the name under which the chosen convention was measured.
        variant: whose.
        subject: whose.

    Returns:
        ``ids`` (n,), and by metric n values (of all repeats together) or n x repeats, row by row;
        None where there is none.
    """
    who = {"variant": variant, "subject": subject}
    paths = [p for kind in ("images", "brains") for w, p in sources.files(kind) if w == who]
    values = pd.concat([storage.read_table(path) for path in paths], ignore_index=True)
    ids = np.unique(values["id"])
    measured = dict(list(values.groupby("metric")))
    found = {
        name: measured.get(names.get(name, name)) for name in choose_metrics(experiment, names)
    }
    return {
        "ids": ids.tolist(),
        "metrics": {name: _flatten(rows, ids) for name, rows in found.items() if rows is not None},
    }


def _flatten(rows: pd.DataFrame, ids: np.ndarray) -> list[float | None]:
    wide = rows.pivot(index="id", columns="repeat", values="value").reindex(ids)
    wide = wide.drop(columns=ALL_REPEATS, errors="ignore") if wide.shape[1] > 1 else wide
    return [None if np.isnan(v) else float(f"{v:.{DIGITS}g}") for v in wide.to_numpy().ravel()]


def write_script(values: Mapping[str, Any], *, variant: str, subject: str) -> str:
    """The script that hands the values of one variant and subject to the page."""
    told = [json.dumps(each, separators=(",", ":")) for each in (variant, subject, values)]
    return f"addValues({','.join(told)});\n"
