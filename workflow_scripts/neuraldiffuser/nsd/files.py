"""Every path inside the NSD bucket, in one place; imports nothing heavy.

The layout is that of NSD's data manual (cvnlab.slite.page, "Overview of the data"). Captions,
which NSD does not hold, are given a folder beside it in the local mirror.
"""

import re
from collections.abc import Iterable, Mapping, Sequence

from neuraldiffuser.errors import DataError

DESIGN = "nsddata/experiments/nsd/nsd_expdesign.mat"
STIMULUS_INFORMATION = "nsddata/experiments/nsd/nsd_stim_info_merged.csv"
STIMULI = "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5"
CAPTIONS_ARCHIVE = "captions/annotations_trainval2017.zip"
CAPTIONS = (
    "captions/annotations/captions_train2017.json",
    "captions/annotations/captions_val2017.json",
)

SPACE = "func1pt8mm"  # the 1.8 mm volumes, which every reading of the paper uses

# A session's nsdgeneral voxels, cut out while fetching; only the local mirror has such files.
REGION_FORMAT = "nsdgeneral.hdf5"

STIMULI_GIGABYTES = 39.6  # 73,000 x 425 x 425 x 3 bytes
GIGABYTES_PER_SESSION = {"hdf5": 1.05, "nii.gz": 0.56, REGION_FORMAT: 0.045, "mindeye2": 0.044}


def responses(subject: str) -> str:
    """Behavioural responses: one line per trial, in the order of the sessions."""
    return f"nsddata/ppdata/{subject}/behav/responses.tsv"


def region_mask(subject: str, *, name: str) -> str:
    """A volume of region labels, such as nsdgeneral or prf-visualrois."""
    return f"nsddata/ppdata/{subject}/{SPACE}/roi/{name}.nii.gz"


def mean_volume(subject: str) -> str:
    """The mean of all functional volumes, which looks like the brain; for pictures only."""
    return f"nsddata/ppdata/{subject}/{SPACE}/mean.nii.gz"


def betas_folder(subject: str, *, version: str) -> str:
    """The folder of a subject's single-trial betas."""
    return f"nsddata_betas/ppdata/{subject}/{SPACE}/{version}"


def session_betas(subject: str, *, version: str, session: int, file_format: str) -> str:
    """The betas of one session (1-based)."""
    folder = betas_folder(subject, version=version)
    return f"{folder}/betas_session{session:02d}.{file_format}"


def renormalised_betas(subject: str) -> str:
    """MindEye2's betas of all sessions; only the mirror has it."""
    return f"mindeye2/betas_all_{subject}_fp32_renorm.hdf5"


def signal_to_noise(subject: str, *, version: str) -> str:
    """The noise-ceiling signal-to-noise ratio of each voxel."""
    return f"{betas_folder(subject, version=version)}/ncsnr.nii.gz"


def all_session_betas(
    subject: str, *, sessions: Iterable[int], version: str, file_format: str
) -> list[str]:
    """The betas of the sessions with these (1-based) numbers."""
    return [
        session_betas(subject, version=version, session=session, file_format=file_format)
        for session in sessions
    ]


def ground_truth(subject: str) -> str:
    """What a simulation knows of a subject; only a generated bucket has it."""
    return f"ground_truth/{subject}.h5"


def session_number(path: str) -> int:
    """The session (1-based) that a betas file belongs to, from its name.

    Raises:
        DataError: the name is none of NSD's.
    """
    found = re.search(r"betas_session(\d+)\.(nsdgeneral\.hdf5|hdf5|nii\.gz)$", str(path))
    if not found:
        raise DataError(
            f"{path} is not named like the betas of a session; "
            "expected betas_sessionNN.hdf5 or betas_sessionNN.nii.gz."
        )
    return int(found[1])


def subject_objects(
    subject: str, *, sessions: Iterable[int], version: str, file_format: str
) -> list[str]:
    """Every object that the voxels of a subject and their picture are made from."""
    return [
        *all_session_betas(subject, sessions=sessions, version=version, file_format=file_format),
        signal_to_noise(subject, version=version),
        region_mask(subject, name="nsdgeneral"),
        region_mask(subject, name="prf-visualrois"),
        mean_volume(subject),
        responses(subject),
    ]


def common_objects() -> list[str]:
    """Every object that all subjects share, the archive of captions included."""
    return [DESIGN, STIMULUS_INFORMATION, STIMULI, CAPTIONS_ARCHIVE]


def generated_objects(
    subjects: Sequence[str], *, sessions: Mapping[str, int], version: str
) -> list[str]:
    """Every object of a generated bucket: HDF5 betas, and one session as NIfTI too."""
    betas = {"version": version, "file_format": "hdf5"}
    own = [
        name
        for subject in subjects
        for name in (
            *subject_objects(subject, sessions=range(1, sessions[subject] + 1), **betas),
            ground_truth(subject),
        )
    ]
    nifti = session_betas(subjects[0], version=version, session=1, file_format="nii.gz")
    return [*common_objects(), *own, nifti]


def download_gigabytes(sessions: Mapping[str, int], *, subjects: Iterable[str], kind: str) -> float:
    """About how much betas an experiment fetches, in GB (10^9 bytes).

    Args:
        sessions: number of sessions by subject.
        subjects: whose betas are fetched.
        kind: a key of ``GIGABYTES_PER_SESSION``: a file format, or "mindeye2".
    """
    return sum(sessions[subject] for subject in subjects) * GIGABYTES_PER_SESSION[kind]
