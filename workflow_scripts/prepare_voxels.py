"""From a subject's betas, masks and design to normalised rows of voxels joined to 73k ids."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from neuraldiffuser import runtime
from neuraldiffuser.nsd import design
from neuraldiffuser.nsd.normalisation import INVALID_VOXELS, Statistics, measure
from neuraldiffuser.nsd.recordings import Recordings, read_recordings
from neuraldiffuser.nsd.selection import read_selection
from neuraldiffuser.nsd.voxels import write_voxels


def prepare_voxels(
    *,
    paths_to_betas: list[Path],
    paths_to_regions: dict[str, Path],
    path_to_design: Path,
    path_to_responses: Path,
    path_to_voxels: Path,
    subject: str,
    sessions: Sequence[int],
    missing_sessions: Sequence[int],
    normalisation: str,
    invalid_voxels: str,
) -> None:
    """Masks, normalises and joins the betas of one subject.

    Args:
        paths_to_betas: one file per session, or MindEye2's file of all sessions.
        paths_to_regions: volumes ``nsdgeneral``, ``areas`` (prf-visualrois) and ``ncsnr``.
        path_to_design: nsd_expdesign.mat.
        path_to_responses: the subject's responses.tsv.
        path_to_voxels: where ``voxels/{subject}.h5`` goes.
        subject: such as "subj01".
        sessions: numbers (1-based) of those to use.
        missing_sessions: numbers of those that were asked for but do not exist.
        normalisation: a name in ``normalisation.NORMALISATIONS``.
        invalid_voxels: a name in ``normalisation.INVALID_VOXELS``.

    Raises:
        DataError: a file is missing, truncated or non-finite, or does not match another.
    """
    trials = design.join_trials(
        path_to_design=path_to_design, path_to_responses=path_to_responses, subject=subject
    )
    selection = read_selection(
        path_to_mask=paths_to_regions["nsdgeneral"],
        path_to_areas=paths_to_regions["areas"],
        path_to_ncsnr=paths_to_regions["ncsnr"],
    )
    recordings = read_recordings(
        paths_to_betas,
        selection=selection,
        trials=trials,
        sessions=sessions,
        missing=missing_sessions,
    )
    design.require_splits(recordings.trials, source=path_to_responses)
    statistics = measure(recordings, normalisation=normalisation)
    keep = INVALID_VOXELS[invalid_voxels](statistics, subject)
    report(subject, recordings, statistics, keep)
    write_voxels(
        path_to_voxels,
        subject=subject,
        recordings=recordings,
        selection=selection,
        statistics=statistics,
        keep=keep,
    )


def report(subject: str, recordings: Recordings, statistics: Statistics, keep: np.ndarray) -> None:
    """Tells the log what the file will hold."""
    shared = recordings.trials["shared"]
    runtime.logger.info(
        "%s: %d voxels (%d without data in some session, %d dropped), %d training and %d test "
        "trials of %d sessions (%d missing)",
        subject,
        keep.sum(),
        (~statistics.valid).any(axis=0).sum(),
        (~keep).sum(),
        (~shared).sum(),
        shared.sum(),
        len(recordings.sessions),
        len(recordings.missing),
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
