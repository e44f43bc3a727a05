"""Derives the findings from the evaluation's tables.

In: comparisons of variants, with their controls, along the sweep and with the stimuli, and of
predictors, summary, retrieval, decoding, accuracy of the encoders, and the voxels' noise ceilings.
Out: findings.json.
"""

from pathlib import Path

from neuraldiffuser import runtime, storage
from neuraldiffuser.config.evaluation import BootstrapSettings, FindingSettings
from neuraldiffuser.config.reconstruction import Selection, Variant
from neuraldiffuser.evaluation.brain_findings import build_brain_findings
from neuraldiffuser.evaluation.findings import build_findings
from neuraldiffuser.evaluation.variants import list_guided_by_encoder


def derive_findings(
    *,
    path_to_comparisons: Path,
    path_to_gains: Path,
    path_to_sweep: Path,
    path_to_summary: Path,
    path_to_predictors: Path,
    path_to_brain: Path,
    path_to_accuracy: list[Path],
    path_to_retrieval: list[Path],
    path_to_decoding: list[Path],
    path_to_voxels: list[Path],
    path_to_findings: Path,
    variants: dict[str, Variant],
    selections: dict[str, Selection],
    findings: FindingSettings,
    bootstrap: BootstrapSettings,
) -> None:
    """Writes what the experiment shows, claim by claim."""
    guided_by_encoder = list_guided_by_encoder(variants, selections)
    built = build_findings(
        comparisons=storage.read_table(path_to_comparisons),
        gains=storage.read_table(path_to_gains),
        swept=storage.read_table(path_to_sweep),
        summary=storage.read_table(path_to_summary),
        predictors=storage.read_table(path_to_predictors),
        retrieval={Path(path).stem: storage.read_table(path) for path in path_to_retrieval},
        decoding={Path(path).stem: storage.read_table(path) for path in path_to_decoding},
        noise_ceilings={
            Path(path).stem: storage.read_array(path, "voxel/noise_ceiling")
            for path in path_to_voxels
        },
        guided_by_encoder=guided_by_encoder,
        settings=findings,
        bootstrap=bootstrap,
    )
    of_brain = build_brain_findings(
        comparisons=storage.read_table(path_to_brain),
        accuracy={
            Path(path).stem.removesuffix("_accuracy"): storage.read_table(path)
            for path in path_to_accuracy
        },
        guided_by_encoder=guided_by_encoder,
        settings=findings,
    )
    joined = {kind: built[kind] + of_brain[kind] for kind in built}
    storage.write_json(path_to_findings, joined)


if __name__ == "__main__":
    with runtime.job(snakemake) as settings:  # noqa: F821
        derive_findings(
            path_to_comparisons=snakemake.input.comparisons,  # noqa: F821
            path_to_gains=snakemake.input.gains,  # noqa: F821
            path_to_sweep=snakemake.input.sweep,  # noqa: F821
            path_to_summary=snakemake.input.summary,  # noqa: F821
            path_to_predictors=snakemake.input.predictors,  # noqa: F821
            path_to_brain=snakemake.input.brain,  # noqa: F821
            path_to_accuracy=snakemake.input.accuracy,  # noqa: F821
            path_to_retrieval=snakemake.input.retrieval,  # noqa: F821
            path_to_decoding=snakemake.input.decoding,  # noqa: F821
            path_to_voxels=snakemake.input.voxels,  # noqa: F821
            path_to_findings=snakemake.output.findings,  # noqa: F821
            **settings,
        )
