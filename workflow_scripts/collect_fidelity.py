"""Collects the measured effects of switches: one sentence each, for docs/fidelity.md."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from neuraldiffuser import runtime, storage
from neuraldiffuser.evaluation.switches import describe_effect


def collect_fidelity(
    *, path_to_effects: list[Path], left_out: list[str], path_to_collection: Path, hours: float
) -> None:
    """Writes {key: value tried, effect} of all measured switches, and what the budget left out.

    Args:
        path_to_effects: one file of each measured switch.
        left_out: keys that did not fit into the budget.
        path_to_collection: where they all go.
        hours: the budget.
    """
    measured = [storage.read_json(path) for path in path_to_effects]
    told = {one["key"]: tell(one) for one in measured}
    storage.write_json(path_to_collection, {"hours": hours, "left_out": left_out, "switches": told})


def tell(measured: Mapping[str, Any]) -> dict[str, Any]:
    """One switch: the value tried, its effect in words, and how long measuring took."""
    differences = pd.DataFrame(measured["differences"])
    effect = describe_effect(differences, variant=measured["variant"], level=measured["level"])
    kept = {name: measured[name] for name in ("value", "instead_of", "minutes")}
    return kept | {"effect": effect}


if __name__ == "__main__":
    with runtime.job(snakemake) as settings:  # noqa: F821
        collect_fidelity(
            path_to_effects=snakemake.input.effects,  # noqa: F821
            left_out=snakemake.params.left_out,  # noqa: F821
            path_to_collection=snakemake.output[0],  # noqa: F821
            **settings,
        )
