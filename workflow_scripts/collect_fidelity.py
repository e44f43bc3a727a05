"""Collects the measured effects of switches: one sentence each, for docs/fidelity.md."""

from pathlib import Path

from neuraldiffuser import runtime, storage


def collect_fidelity(
    *, path_to_effects: list[Path], path_to_collection: Path, hours: float
) -> None:
    """Writes {key: value tried, effect} of all measured switches, and the budget.

    Args:
        path_to_effects: one file of each measured switch.
        path_to_collection: where they all go.
        hours: the budget, which those that are not among them did not fit.
    """
    effects = [storage.read_json(path) for path in path_to_effects]
    told = {
        one["key"]: {name: one[name] for name in ("value", "instead_of", "effect", "minutes")}
        for one in effects
    }
    storage.write_json(path_to_collection, {"hours": hours, "switches": told})


if __name__ == "__main__":
    with runtime.job(snakemake) as settings:  # noqa: F821
        collect_fidelity(
            path_to_effects=snakemake.input.effects,  # noqa: F821
            path_to_collection=snakemake.output[0],  # noqa: F821
            **settings,
        )
