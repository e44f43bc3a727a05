"""How far the brain correlation of reconstructions stays below that of the stimuli.

In: brain correlations of every variant, and of the stimuli. Out: one table of paired differences.
"""

from pathlib import Path

from neuraldiffuser import runtime, storage
from neuraldiffuser.config.evaluation import BootstrapSettings
from neuraldiffuser.evaluation.brain_findings import compare_with_stimuli
from neuraldiffuser.evaluation.long_form import average_per_image, read_by_run


def compare_brain(
    *,
    path_to_brain: list[Path],
    path_to_comparisons: Path,
    direction: str,
    bootstrap: BootstrapSettings,
) -> None:
    """Writes the differences between the stimuli and every variant.

    Args:
        path_to_brain: brain.csv of the stimuli and of every variant or selection and subject.
        path_to_comparisons: the table of ``compare_with_stimuli`` goes there.
        direction: of the brain correlations that tables show.
        bootstrap: draws, level and seed.
    """
    values = {key: average_per_image(tables) for key, tables in read_by_run(path_to_brain).items()}
    table = compare_with_stimuli(values, direction=direction, bootstrap=bootstrap)
    storage.write_table(path_to_comparisons, table)


if __name__ == "__main__":
    with runtime.job(snakemake) as settings:  # noqa: F821
        compare_brain(
            path_to_brain=snakemake.input.brain,  # noqa: F821
            path_to_comparisons=snakemake.output.comparisons,  # noqa: F821
            **settings,
        )
