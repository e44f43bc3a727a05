"""How betas become the rows that decoders read."""

from typing import Literal

from pydantic import Field

from neuraldiffuser.config.base import Section


class Voxels(Section):
    """Normalisation and averaging of the nsdgeneral voxels."""

    normalisation: Literal[
        "global_training", "session_training", "session_all", "averaged_training"
    ] = Field(
        "global_training",
        description="Trials behind each voxel's mean and deviation. global_training: all training "
        "trials (released: the file the released code reads); session_training: the training "
        "trials of each session (corrected); session_all: all trials of each session, test "
        "images included (the first release and MindEye); averaged_training: training images "
        "averaged over repeats (Brain-Diffuser).",
    )
    invalid_voxels: Literal["zero", "drop"] = Field(
        "zero",
        description="A voxel that is constant over a session carries no signal there. zero: its "
        "normalised values in that session are 0, the mean (released: the counts of the paper's "
        "voxels include them); drop: it is left out of all sessions.",
    )
    test_average: Literal["voxels", "outputs"] = Field(
        "voxels",
        description="Where repeats of a test image are averaged: voxels before the decoder "
        "(released scoring code, corrected) or the decoder's outputs (MindEye2).",
    )
