"""The voxels stage a second time, written for the eye: loops over single trials and voxels in
float64, on the files of a bucket. It shares no code with the library and is in no hurry.

A voxel that has no data in a session (all its values there are equal) is None there.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import nibabel
import pandas as pd
import scipy.io

FOLDER = "nsddata_betas/ppdata/{subject}/func1pt8mm/betas_fithrf_GLMdenoise_RR"
MASK = "nsddata/ppdata/{subject}/func1pt8mm/roi/nsdgeneral.nii.gz"
RESPONSES = "nsddata/ppdata/{subject}/behav/responses.tsv"
DESIGN = "nsddata/experiments/nsd/nsd_expdesign.mat"


@dataclass
class Trial:
    """One trial and its betas, one number per voxel in the order of the volume."""

    session: int
    image: int  # counted from 0
    repeat: int  # how often the image had been shown
    shared: bool
    betas: list = field(default_factory=list)


def find_voxels(bucket: Path, subject: str) -> list[tuple[int, int, int]]:
    """Coordinates of nsdgeneral, the last axis fastest."""
    mask = nibabel.load(bucket / MASK.format(subject=subject)).get_fdata()
    found = []
    for x in range(mask.shape[0]):
        for y in range(mask.shape[1]):
            for z in range(mask.shape[2]):
                if mask[x, y, z] == 1:
                    found.append((x, y, z))
    return found


def list_trials(bucket: Path, subject: str) -> list[Trial]:
    """All trials of responses.tsv in the order of scanning."""
    design = scipy.io.loadmat(bucket / DESIGN)
    shared = {int(number) for number in design["sharedix"][0]}
    table = pd.read_csv(bucket / RESPONSES.format(subject=subject), sep="\t")
    lines = sorted(zip(table["SESSION"], table["RUN"], table["TRIAL"], table["73KID"], strict=True))
    shown = defaultdict(int)
    trials = []
    for number, (session, _, _, image) in enumerate(lines):
        place = int(design["masterordering"][0, number]) - 1
        assert design["subjectim"][int(subject[-2:]) - 1, place] == image
        trials.append(Trial(session, int(image) - 1, shown[image], image in shared))
        shown[image] += 1
    return trials


def read_percent(path: Path, voxels: list[tuple[int, int, int]]) -> list[list[float]]:
    """Percent signal change of a session: a list per trial."""
    if path.name.endswith(".nii.gz"):
        values = nibabel.load(path).get_fdata()
        return [[values[x, y, z, t] / 300 for x, y, z in voxels] for t in range(values.shape[3])]
    with h5py.File(path) as file:
        stored = file["betas"][:]
    return [[float(trial[z, y, x]) / 300 for x, y, z in voxels] for trial in stored]


def read_trials(bucket: Path, subject: str, sessions: dict[int, str]) -> list[Trial]:
    """The trials of some sessions (number: file extension) with their betas."""
    voxels = find_voxels(bucket, subject)
    known = list_trials(bucket, subject)
    found = []
    for session, extension in sessions.items():
        folder = bucket / FOLDER.format(subject=subject)
        rows = read_percent(folder / f"betas_session{session:02d}.{extension}", voxels)
        trials = [trial for trial in known if trial.session == session]
        for trial, row in zip(trials, rows, strict=True):
            trial.betas = list(row)
        for voxel in range(len(voxels)):
            if len({row[voxel] for row in rows}) == 1:
                for trial in trials:
                    trial.betas[voxel] = None
        found.extend(trials)
    return found


# --- normalisation of one voxel ------------------------------------------------------------------


def mean(values):
    return sum(values) / len(values)


def deviation(values, *, sample=False):
    middle = mean(values)
    squares = sum((value - middle) ** 2 for value in values)
    return (squares / (len(values) - (1 if sample else 0))) ** 0.5


def normalise_voxel(trials: list[Trial], voxel: int, name: str) -> list:
    """The normalised value of every trial, None where there is none."""
    values = [trial.betas[voxel] for trial in trials]
    if all(value is None for value in values) or name == "none":
        return values
    training = [not trial.shared for trial in trials]
    if name == "global_training":
        return standardise(values, training)
    if name == "averaged_training":
        averages = average_images(trials, values, training)
        return shift(values, mean(averages), deviation(averages, sample=True))
    everybody = [True] * len(trials)
    by_session = standardise_sessions(
        trials, values, training if name == "session_training" else everybody
    )
    if name != "session_all_then_split":
        return by_session
    test = [trial.shared for trial in trials]
    averages = average_images(trials, by_session, test)
    of_training = standardise(by_session, training)
    of_test = shift(by_session, mean(averages), deviation(averages))
    return [b if shared else a for a, b, shared in zip(of_training, of_test, test, strict=True)]


def shift(values, middle, spread):
    return [None if value is None else (value - middle) / spread for value in values]


def standardise(values, chosen):
    used = [value for value, use in zip(values, chosen, strict=True) if use and value is not None]
    return shift(values, mean(used), deviation(used))


def standardise_sessions(trials, values, chosen):
    done = [None] * len(values)
    for session in {trial.session for trial in trials}:
        here = [number for number, trial in enumerate(trials) if trial.session == session]
        if any(values[number] is None for number in here):
            continue
        part = standardise([values[n] for n in here], [chosen[n] for n in here])
        for number, value in zip(here, part, strict=True):
            done[number] = value
    return done


def average_images(trials, values, chosen):
    """Means over the repeats that have a value, of every image that has any."""
    seen = defaultdict(list)
    for trial, value, use in zip(trials, values, chosen, strict=True):
        if use and value is not None:
            seen[trial.image].append(value)
    return [mean(repeats) for repeats in seen.values()]


def normalise(trials: list[Trial], name: str) -> dict[tuple[int, int], list]:
    """Normalised betas (a value per voxel) by image and repeat."""
    columns = [normalise_voxel(trials, voxel, name) for voxel in range(len(trials[0].betas))]
    return {
        (trial.image, trial.repeat): [column[number] for column in columns]
        for number, trial in enumerate(trials)
    }


def average(rows: dict[tuple[int, int], list], image: int, *, padded: bool) -> list[float]:
    """The mean of an image's repeats, voxel by voxel; 0 where no repeat has a value."""
    repeats = [rows[key] for key in sorted(rows) if key[0] == image]
    if padded:
        repeats = (repeats * 3)[: max(3, len(repeats))]
    means = []
    for voxel in range(len(repeats[0])):
        values = [row[voxel] for row in repeats if row[voxel] is not None]
        means.append(mean(values) if values else 0.0)
    return means
