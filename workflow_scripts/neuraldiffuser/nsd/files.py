"""Every path inside the NSD bucket, in one place; imports nothing heavy.

The layout is that of NSD's data manual (cvnlab.slite.page, "Overview of the data"). Captions, which NSD does not hold, are given a folder beside it in the local mirror.
"""

import re
from collections.abc import Iterable, Mapping

from neuraldiffuser.errors import DataError

DESIGN = "nsddata/experiments/nsd/nsd_expdesign.mat"
STIMULUS_INFORMATION = "nsddata/experiments/nsd/nsd_stim_info_merged.csv"
STIMULI = "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5"
CAPTIONS_ARCHIVE = "captions/annotations_trainval2017.zip"
CAPTIONS = (
    "captions/annotations/captions_train2017.json",
    "captions/annotations/captions_val2017.json",
)

STIMULI_GIGABYTES = 39.6  # 73,000 x 425 x 425 x 3 bytes
GIGABYTES_PER_SESSION = {"hdf5": 1.05, "nii.gz": 0.56}  # at 1.8 mm
VOXELS_RELATIVE_TO_STANDARD = {"func1pt8mm": 1.0, "func1mm": 5.7}


def responses(subject: str) -> str:
    """Behavioural responses: one line per trial, in the order of the sessions."""
    return f"nsddata/ppdata/{subject}/behav/responses.tsv"


def region_mask(subject: str, *, space: str, name: str) -> str:
    """A volume of region labels, such as nsdgeneral or prf-visualrois."""
    return f"nsddata/ppdata/{subject}/{space}/roi/{name}.nii.gz"


def betas_folder(subject: str, *, space: str, version: str) -> str:
    """The folder of a subject's single-trial betas."""
    return f"nsddata_betas/ppdata/{subject}/{space}/{version}"


def session_betas(
    subject: str, *, space: str, version: str, session: int, file_format: str
) -> str:
    """The betas of one session (1-based)."""
    folder = betas_folder(subject, space=space, version=version)
    return f"{folder}/betas_session{session:02d}.{file_format}"


def signal_to_noise(subject: str, *, space: str, version: str) -> str:
    """The noise-ceiling signal-to-noise ratio of each voxel."""
    return f"{betas_folder(subject, space=space, version=version)}/ncsnr.nii.gz"


def session_number(path: str) -> int:
    """The session (1-based) that a betas file belongs to, from its name.

    Raises:
        DataError: the name is none of NSD's.
    """
    found = re.search(r"betas_session(\d+)\.(hdf5|nii\.gz)$", str(path))
    if not found:
        raise DataError(
            f"{path} is not named like the betas of a session; "
            "expected betas_sessionNN.hdf5 or betas_sessionNN.nii.gz."
        )
    return int(found[1])


def subject_objects(
    subject: str, *, sessions: int, space: str, version: str, file_format: str
) -> list[str]:
    """Every object that the voxels of a subject are made from."""
    return [
        *(
            session_betas(
                subject, space=space, version=version, session=session, file_format=file_format
            )
            for session in range(1, sessions + 1)
        ),
        signal_to_noise(subject, space=space, version=version),
        region_mask(subject, space=space, name="nsdgeneral"),
        region_mask(subject, space=space, name="prf-visualrois"),
        responses(subject),
    ]


def common_objects() -> list[str]:
    """Every object that all subjects share, the archive of captions included."""
    return [DESIGN, STIMULUS_INFORMATION, STIMULI, CAPTIONS_ARCHIVE]


def download_gigabytes(
    sessions: Mapping[str, int], *, subjects: Iterable[str], space: str, file_format: str
) -> float:
    """About how much betas an experiment fetches from NSD, in GB (10^9 bytes)."""
    number = sum(sessions[subject] for subject in subjects)
    return number * GIGABYTES_PER_SESSION[file_format] * VOXELS_RELATIVE_TO_STANDARD[space]
