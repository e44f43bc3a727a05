"""From a subject's betas, masks and design to normalised rows of voxels joined to 73k ids."""

from pathlib import Path

from neuraldiffuser import runtime
from neuraldiffuser.nsd import design, voxels


def prepare_voxels(
    *,
    paths_to_betas: list[Path],
    paths_to_regions: dict[str, Path],
    path_to_design: Path,
    path_to_responses: Path,
    path_to_voxels: Path,
    subject: str,
    normalisation: str,
    invalid_voxels: str,
) -> None:
    """Masks, normalises and joins the betas of one subject.

    Args:
        paths_to_betas: one file per session.
        paths_to_regions: volumes ``nsdgeneral``, ``areas`` (prf-visualrois) and ``ncsnr``.
        path_to_design: nsd_expdesign.mat.
        path_to_responses: the subject's responses.tsv.
        path_to_voxels: where ``voxels/{subject}.h5`` goes.
        subject: such as "subj01".
        normalisation: a name in ``normalisation.NORMALISATIONS``.
        invalid_voxels: a name in ``normalisation.INVALID_VOXELS``.

    Raises:
        DataError: a file is missing, truncated or non-finite, or does not match another.
    """
    trials = design.join_trials(
        path_to_design=path_to_design, path_to_responses=path_to_responses, subject=subject
    )
    selection = voxels.read_selection(
        path_to_mask=paths_to_regions["nsdgeneral"],
        path_to_areas=paths_to_regions["areas"],
        path_to_ncsnr=paths_to_regions["ncsnr"],
    )
    betas, rows = voxels.read_betas(paths_to_betas, selection=selection, trials=trials)
    prepared = voxels.build_voxels(
        betas,
        rows,
        subject=subject,
        selection=selection,
        normalisation=normalisation,
        invalid_voxels=invalid_voxels,
    )
    report(prepared)
    voxels.write_voxels(path_to_voxels, prepared)


def report(prepared: voxels.Voxels) -> None:
    """Tells the log what the file holds."""
    invalid = int((~prepared.statistics.valid).any(axis=0).sum())
    runtime.logger.info(
        "%s: %d voxels (%d of them invalid in some session), %d training and %d test trials",
        prepared.subject,
        len(prepared.selection.index),
        invalid,
        len(prepared.training.id),
        len(prepared.test.id),
    )


if __name__ == "__main__":
    with runtime.job(snakemake) as settings:  # noqa: F821
        prepare_voxels(
            paths_to_betas=snakemake.input.betas,  # noqa: F821
            paths_to_regions={
                name: snakemake.input[name]  # noqa: F821
                for name in ("nsdgeneral", "areas", "ncsnr")
            },
            path_to_design=snakemake.input.design,  # noqa: F821
            path_to_responses=snakemake.input.responses,  # noqa: F821
            path_to_voxels=snakemake.output.voxels,  # noqa: F821
            subject=snakemake.wildcards.subject,  # noqa: F821
            **settings,
        )
