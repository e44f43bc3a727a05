"""Reads the artefacts that tables and figures are made from; a path says whose they are."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from neuraldiffuser import storage
from neuraldiffuser.errors import DataError
from neuraldiffuser.evaluation.predictors import TEST


@dataclass(frozen=True)
class Sources:
    """The artefacts by kind, e.g. ``{"summary": [path], "decoding": [path of subj01, ...]}``."""

    paths: Mapping[str, Sequence[Path]] = field(default_factory=dict)

    def table(self, kind: str) -> pd.DataFrame:
        """All tables of one kind below each other, with columns that say whose they are."""
        parts = [
            storage.read_table(path).assign(**IDENTITIES[kind](Path(path)))
            for path in self.paths.get(kind, ())
        ]
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()

    def files(self, kind: str) -> list[tuple[dict[str, str], Path]]:
        """(whose it is, path) of every file of one kind."""
        return [(IDENTITIES[kind](Path(path)), Path(path)) for path in self.paths.get(kind, ())]

    def only(self, kind: str) -> Path:
        """The path of a kind of which there is one.

        Raises:
            DataError: there is none, or more than one.
        """
        paths = self.paths.get(kind, ())
        if len(paths) != 1:
            raise DataError(f"{len(paths)} files of kind {kind} were given; exactly 1 is needed.")
        return Path(paths[0])


def _nobody(path: Path) -> dict[str, str]:  # noqa: ARG001
    return {}


def _subject(path: Path) -> dict[str, str]:
    return {"subject": path.stem}


def _subject_of_accuracy(path: Path) -> dict[str, str]:
    return {"subject": path.stem.removesuffix("_accuracy")}


def _variant_and_subject(path: Path) -> dict[str, str]:
    return {"variant": path.parts[-3], "subject": path.parts[-2]}


def _method_and_id(path: Path) -> dict[str, str]:
    return {"method": path.parts[-2], "id": path.stem}


def _variant_and_stem(path: Path) -> dict[str, str]:
    return {"variant": path.parts[-2], "subject": path.stem}


def _training(path: Path) -> dict[str, str]:
    target, subject, name = path.parts[-3:]
    stage = name.removesuffix("_curve.csv").removesuffix(".safetensors")
    return {"target": target, "subject": subject, "stage": stage}


def _control_training(path: Path) -> dict[str, str]:
    control, target, name = path.parts[-3:]
    return {"target": target, "subject": name.removesuffix("_curve.csv"), "stage": control}


IDENTITIES: dict[str, Callable[[Path], dict[str, str]]] = {
    "summary": _nobody,
    "aggregations": _nobody,
    "comparisons": _nobody,
    "sweep": _nobody,
    "stimuli": _nobody,
    "rivals": _method_and_id,
    "decoding": _subject,
    "retrieval": _subject,
    "voxels": _subject,
    "encoders": _subject_of_accuracy,
    "images": _variant_and_subject,
    "brains": _variant_and_subject,
    "thumbnails": _variant_and_stem,
    "reconstructions": _variant_and_subject,
    "selections": _variant_and_stem,
    "calibrations": _variant_and_stem,
    "predictors": _nobody,
    "predictor_comparisons": _nobody,
    "decoders": _training,
    "curves": _training,
    "control_curves": _control_training,
}


def find_files(sources: Sources, kind: str, **wanted: str) -> list[Path]:
    """The files of one kind that belong to, for example, a variant or selection and a subject."""
    return [path for who, path in sources.files(kind) if wanted.items() <= who.items()]


def read_chances(sources: Sources) -> pd.DataFrame:
    """Chance and number of candidates of retrieval by pool of test images, over subjects."""
    retrieval = sources.table("retrieval")
    if retrieval.empty:
        return retrieval
    chosen = retrieval[retrieval["split"] == TEST].groupby("pool")
    return chosen.agg(chance=("chance", "mean"), candidates=("candidates", "max"))


def read_calibrations(sources: Sources) -> pd.DataFrame:
    """The calibrated guidance scales: variant, subject, function, scale and their ratios."""
    rows: list[dict[str, Any]] = [
        who | {"function": function} | found
        for who, path in sources.files("calibrations")
        for function, found in storage.read_json(path).items()
    ]
    return pd.DataFrame(rows)
