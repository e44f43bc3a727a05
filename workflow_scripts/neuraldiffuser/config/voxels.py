"""How betas become the rows that decoders read."""

from typing import Literal

from pydantic import Field

from neuraldiffuser.config.base import Section


class Voxels(Section):
    """Normalisation and averaging of the nsdgeneral voxels."""

    normalisation: Literal[
        "global_training",
        "session_training",
        "session_all",
        "session_all_then_split",
        "averaged_training",
        "none",
    ] = Field(
        "global_training",
        description="Trials behind each voxel's mean and deviation. global_training: all training "
        "trials (released: the file the released code reads); session_training: the training "
        "trials of each session (corrected); session_all: all trials of each session, test "
        "images included (MindEye); session_all_then_split: the same, then training trials by "
        "their own statistics and test trials by those of the averaged test images (the first "
        "release); averaged_training: training images averaged over repeats (Brain-Diffuser); "
        "none: betas as they come, percent signal change or MindEye2's renormalised values.",
    )
    invalid_voxels: Literal["missing", "dropped", "refused"] = Field(
        "missing",
        description="A voxel that is zero (or constant) through a session is NSD's mark for no "
        "data. missing: it has no value there: it is left out of statistics and of means over "
        "repeats, and decoders meet 0, the mean (released: the counts of the paper's voxels "
        "include such voxels); dropped: it leaves all sessions; refused: none may occur.",
    )
    test_average: Literal["voxels", "outputs"] = Field(
        "voxels",
        description="Where repeats of a test image are averaged: voxels before the decoder "
        "(released scoring code, corrected) or the decoder's outputs (MindEye2).",
    )
    missing_repeats: Literal["skipped", "padded"] = Field(
        "padded",
        description="A test image with fewer than three repeats in the sessions used. skipped: "
        "the mean over those that exist (corrected); padded: the first repeats count again until "
        "there are three, so of two the first counts twice (released, MindEye2).",
    )
