"""Writes the miniature world as an NSD bucket: the same paths, layouts, types and scaling.

Beside NSD's own files lies ``ground_truth/{subject}.h5``: the voxels' tuning, their noise-free
signal and noise ceilings, for tests and the data card; no stage of the workflow reads it.
"""

import gzip
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import nibabel
import numpy as np
import pandas as pd
import scipy.io

from neuraldiffuser import runtime, storage
from neuraldiffuser.errors import ConfigError
from neuraldiffuser.mini import brains, scenes
from neuraldiffuser.nsd import files
from neuraldiffuser.nsd.betas import UNITS_PER_PERCENT
from neuraldiffuser.nsd.design import subject_number
from neuraldiffuser.nsd.noise_ceiling import estimate_ncsnr

REPEATS = 3
RUNS = 12
SUBJECTS_OF_NSD = 8
INVALID_SHARE = 0.004  # of the nsdgeneral voxels: zero in all trials of one session
BRAIN_PER_VOXEL = 1.25  # voxels of the brain per voxel of nsdgeneral
VOXEL_MILLIMETRES = 1.8


@dataclass(frozen=True)
class World:
    """What the bucket holds, from the configuration."""

    subjects: tuple[str, ...]
    sessions: Mapping[str, int]
    seed: int
    image_size: int
    shared_images: int
    own_images: int
    trials_per_session: int
    voxels: tuple[int, ...]
    noise_ceiling: float
    shared_noise: float
    space: str
    betas: str

    def voxels_of(self, subject: str) -> int:
        """Number of nsdgeneral voxels."""
        return self.voxels[self.subjects.index(subject) % len(self.voxels)]

    def generator(self, subject: str, purpose: str, item: int = 0) -> np.random.Generator:
        """The generator of one random thing; nothing else draws from it."""
        code = PURPOSES.index(purpose)
        return np.random.default_rng((self.seed, subject_number(subject), code, item))


PURPOSES = ("tuning", "volume", "session", "patterns", "invalid", "gain", "responses")


@dataclass(frozen=True)
class Brain:
    """Where a subject's voxels lie. Voxels of nsdgeneral come first, in the tuning's order."""

    shape: tuple[int, int, int]
    positions: np.ndarray  # int64 (brain voxels, 3): x, y, z
    general: int  # number of nsdgeneral voxels

    @property
    def index(self) -> np.ndarray:
        """Flat C-order index (brain voxels,) into the volume."""
        return np.ravel_multi_index(self.positions.T, self.shape)


# --- design ------------------------------------------------------------------------------------


def require_whole_design(world: World) -> None:
    """Raises ConfigError unless the sessions hold every picture exactly three times."""
    trials = REPEATS * (world.shared_images + world.own_images)
    for subject in world.subjects:
        if world.sessions.get(subject, 0) * world.trials_per_session != trials:
            raise ConfigError(
                f"nsd.sessions.{subject} is {world.sessions.get(subject, 0)}, but {trials} trials "
                f"(three per picture) in sessions of {world.trials_per_session} need "
                f"{trials / world.trials_per_session:g}; change nsd.sessions or mini."
            )


def master_ordering(world: World) -> np.ndarray:
    """Which of a subject's pictures (0-based, shared ones first) each trial shows: (trials,).

    As in NSD the order is common to all subjects, and the repeats of a picture spread over
    neighbouring and distant sessions.
    """
    rng = np.random.default_rng((world.seed, 0))
    return rng.permutation(np.tile(np.arange(world.shared_images + world.own_images), REPEATS))


def picture_ids(world: World) -> np.ndarray:
    """0-based 73k ids (subjects, pictures) that each subject sees, the shared ones first."""
    count = len(world.subjects)
    everything = np.random.default_rng((world.seed, 1)).permutation(
        world.shared_images + count * world.own_images
    )
    shared = np.sort(everything[: world.shared_images])
    own = everything[world.shared_images :].reshape(count, world.own_images)
    return np.concatenate([np.tile(shared, (count, 1)), own], axis=1)


def planned_ids(world: World) -> dict[str, np.ndarray]:
    """The 73k id (trials,) of each trial, by subject."""
    order = master_ordering(world)
    return {
        subject: row[order] for subject, row in zip(world.subjects, picture_ids(world), strict=True)
    }


def write_design(bucket: Path, world: World) -> None:
    """nsd_expdesign.mat; subjects that the world lacks repeat the last one's pictures."""
    rows = np.minimum(np.arange(SUBJECTS_OF_NSD), len(world.subjects) - 1)
    numbers = [subject_number(subject) - 1 for subject in world.subjects]
    rows[numbers] = np.arange(len(numbers))
    pictures = picture_ids(world)[rows]
    content = io.BytesIO()
    scipy.io.savemat(
        content,
        {
            "masterordering": master_ordering(world)[None] + 1.0,
            "subjectim": pictures + 1.0,
            "sharedix": pictures[:1, : world.shared_images] + 1.0,
        },
    )
    storage.write_bytes(bucket / files.DESIGN, content.getvalue())


def coco_ids(world: World) -> np.ndarray:
    """A made-up COCO picture id (pictures,) per 73k id, in no order."""
    number = world.shared_images + len(world.subjects) * world.own_images
    return 1000 + 7 * np.random.default_rng((world.seed, 2)).permutation(number)


def coco_splits(world: World) -> np.ndarray:
    """The COCO split (pictures,) of each 73k id; every tenth one is of the validation split."""
    return np.where(coco_ids(world) % 10 == 0, "val2017", "train2017")


def write_stimulus_information(bucket: Path, world: World) -> None:
    """nsd_stim_info_merged.csv."""
    number = len(coco_ids(world))
    shared = picture_ids(world)[0, : world.shared_images]
    table = pd.DataFrame(
        {
            "cocoId": coco_ids(world),
            "cocoSplit": coco_splits(world),
            "cropBox": "(0, 0, 0, 0)",
            "loss": 0.0,
            "nsdId": np.arange(number),
            "flagged": False,
            "BOLD5000": False,
            "shared1000": np.isin(np.arange(number), shared),
        }
    )
    trials = pd.concat([table, *_trial_columns(world, number)], axis=1)
    storage.write_bytes(bucket / files.STIMULUS_INFORMATION, trials.to_csv().encode())


def _trial_columns(world: World, number: int) -> list[pd.DataFrame]:
    """Per subject: whether it saw each picture, and in which (1-based) trials."""
    return [
        _trials_of_pictures(planned, number).add_prefix(f"subject{subject_number(subject)}")
        for subject, planned in planned_ids(world).items()
    ]


def _trials_of_pictures(planned: np.ndarray, number: int) -> pd.DataFrame:
    trials = np.zeros((number, REPEATS), np.int64)
    seen = np.unique(planned)
    trials[seen] = np.argsort(planned, kind="stable").reshape(-1, REPEATS) + 1
    names = [f"_rep{repeat}" for repeat in range(REPEATS)]
    return pd.DataFrame(trials, columns=names).assign(**{"": trials[:, 0] > 0})


def responses(world: World, subject: str) -> pd.DataFrame:
    """responses.tsv: which picture each trial showed, and a made-up button press."""
    planned = planned_ids(world)[subject]
    session, position = np.divmod(np.arange(len(planned)), world.trials_per_session)
    run = position * RUNS // world.trials_per_session
    shown = pd.DataFrame(
        {"SUBJECT": subject_number(subject), "SESSION": session + 1, "RUN": run + 1}
    )
    order = pd.Series(master_ordering(world))
    rng = world.generator(subject, "responses")
    old = order.groupby(order).cumcount() > 0
    correct = rng.random(len(planned)) < 0.9
    return shown.assign(
        TRIAL=shown.groupby(["SESSION", "RUN"]).cumcount() + 1,
        **{"73KID": planned + 1, "10KID": order + 1},
        TIME=session + position * 4 / 86400,
        ISOLD=old.astype(int),
        ISCORRECT=correct.astype(int),
        RT=rng.normal(900, 150, len(planned)).round(3),
        BUTTON=np.where(old.to_numpy() == correct, 2, 1),
    )


# --- pictures and captions -----------------------------------------------------------------------


def draw_pictures(world: World) -> list[scenes.Scene]:
    """The scene of every 73k id, in order."""
    numbers = runtime.progress(
        range(len(coco_ids(world))), description="drawing scenes", unit="scene"
    )
    return [
        scenes.draw_scene(seed=world.seed, scene=number, size=world.image_size)
        for number in numbers
    ]


def write_stimuli(bucket: Path, drawn: Sequence[scenes.Scene]) -> None:
    """nsd_stimuli.hdf5: imgBrick uint8 (pictures, height, width, 3)."""
    pictures = np.stack([scene.image for scene in drawn])
    storage.write_arrays(bucket / files.STIMULI, {"imgBrick": pictures})


def write_captions(bucket: Path, drawn: Sequence[scenes.Scene], world: World) -> None:
    """COCO's archive of annotations, with the two caption files."""
    annotations: dict[str, list[dict]] = {"train2017": [], "val2017": []}
    for scene, coco, split in zip(drawn, coco_ids(world), coco_splits(world), strict=True):
        for text in scenes.captions(scene):
            number = 1 + sum(map(len, annotations.values()))
            entry = {"image_id": int(coco), "id": number, "caption": text}
            annotations[split].append(entry)
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for split, entries in annotations.items():
            name = zipfile.ZipInfo(f"annotations/captions_{split}.json", (2017, 9, 1, 0, 0, 0))
            text = json.dumps({"annotations": entries})
            archive.writestr(name, text, zipfile.ZIP_DEFLATED)
    storage.write_bytes(bucket / files.CAPTIONS_ARCHIVE, content.getvalue())


# --- brains ----------------------------------------------------------------------------------------


def place_brain(world: World, subject: str) -> Brain:
    """A rounded box of voxels: nsdgeneral at the back in the order of its areas, the rest in front.

    The axes differ in length, so that a transposed volume cannot pass unnoticed.
    """
    general = world.voxels_of(subject)
    edge = np.cbrt(general * BRAIN_PER_VOXEL / 0.72)
    shape = tuple(int(np.ceil(edge * factor)) for factor in (0.95, 1.2, 0.9))
    corners = np.indices(shape).reshape(3, -1).T
    middle = (np.array(shape) - 1) / 2
    inside = (np.abs((corners - middle) / (middle + 0.5)) ** 4).sum(axis=1) < 1
    within = corners[inside]
    jitter = world.generator(subject, "volume").normal(0, 1, len(within))
    order = np.argsort(within[:, 1] + jitter, kind="stable")
    return Brain(shape=shape, positions=within[order], general=general)


def volume(brain: Brain, values: np.ndarray, *, outside: float) -> np.ndarray:
    """A volume (x, y, z) that holds ``values`` at the brain's voxels."""
    filled = np.full(int(np.prod(brain.shape)), outside, values.dtype)
    filled[brain.index] = values
    return filled.reshape(brain.shape)


def encode_nifti(values: np.ndarray) -> bytes:
    """A gzipped NIfTI-1 image with NSD's voxel size; the same values give the same bytes."""
    affine = np.diag([VOXEL_MILLIMETRES] * 3 + [1.0])
    affine[:3, 3] = -(np.array(values.shape[:3]) - 1) / 2 * VOXEL_MILLIMETRES
    return gzip_bytes(nibabel.Nifti1Image(values, affine).to_bytes())


def gzip_bytes(content: bytes) -> bytes:
    """gzip without a date in the bytes."""
    return gzip.compress(content, compresslevel=1, mtime=0)


def write_regions(bucket: Path, world: World, *, subject: str, labels: np.ndarray) -> None:
    """nsdgeneral and prf-visualrois: -1 outside the cortex, 0 in other cortex.

    A few voxels of the visual areas lie outside nsdgeneral, as in NSD.
    """
    brain = place_brain(world, subject)
    general = np.zeros(len(brain.positions), np.int16)
    general[: brain.general] = 1
    areas = np.zeros(len(brain.positions), np.int16)
    areas[: brain.general] = labels
    areas[brain.general :][:: max(len(areas) // 50, 1)] = 7
    for name, values in (("nsdgeneral", general), ("prf-visualrois", areas)):
        path = bucket / files.region_mask(subject, space=world.space, name=name)
        storage.write_bytes(path, encode_nifti(volume(brain, values, outside=-1)))


def session_betas(
    world: World, *, subject: str, session: int, signal: np.ndarray, tuning: brains.Tuning
) -> np.ndarray:
    """Betas of one session in percent signal change: float32 (trials, brain voxels).

    Every session shifts and stretches each voxel a little; some voxels are zero throughout.

    Args:
        world: the world.
        subject: whose brain.
        session: 1-based.
        signal: (trials, nsdgeneral voxels) noise-free, variance one.
        tuning: of the nsdgeneral voxels.
    """
    brain = place_brain(world, subject)
    patterns = brains.shared_patterns(
        world.generator(subject, "patterns"), brain.positions.astype(np.float32)
    )
    rng = world.generator(subject, "session", session)
    betas = brains.draw_noise(rng, trials=len(signal), patterns=patterns, shared=world.shared_noise)
    betas[:, : brain.general] *= brains.noise_deviation(tuning)
    betas[:, : brain.general] += signal
    gain = world.generator(subject, "gain").lognormal(-0.7, 0.3, betas.shape[1])
    stretched = betas * (gain * rng.lognormal(0, 0.1, betas.shape[1]))
    drifted = stretched + gain * rng.normal(0.6, 0.4, betas.shape[1])
    drifted[:, invalid_voxels(world, subject=subject, session=session)] = 0
    return drifted.astype(np.float32)


def invalid_voxels(world: World, *, subject: str, session: int) -> np.ndarray:
    """nsdgeneral voxels that left the field of view in a session."""
    rng = world.generator(subject, "invalid")
    number = max(1, round(INVALID_SHARE * world.voxels_of(subject)))
    chosen = rng.choice(world.voxels_of(subject), number, replace=False)
    return chosen[rng.integers(world.sessions[subject], size=number) == session - 1]


def to_units(betas: np.ndarray) -> np.ndarray:
    """Percent signal change to NSD's int16."""
    return np.round(betas * UNITS_PER_PERCENT).clip(-32768, 32767).astype(np.int16)


def write_hdf5(path: Path, volumes: np.ndarray) -> None:
    """Writes int16 (x, y, z, trials) in NSD's layout: dataset ``betas`` (trials, z, y, x),
    uncompressed, one voxel per chunk."""
    columns = np.ascontiguousarray(volumes.transpose(2, 1, 0, 3))
    trials = columns.shape[3]
    with storage.replace_atomically(path) as temporary, h5py.File(temporary, "w") as file:
        betas = file.create_dataset(
            "betas", (trials, *columns.shape[:3]), np.int16, chunks=(trials, 1, 1, 1)
        )
        for place in np.ndindex(columns.shape[:3]):
            betas.id.write_direct_chunk((0, *place), columns[place].tobytes())


def write_nifti(path: Path, volumes: np.ndarray) -> None:
    """Writes int16 (x, y, z, trials)."""
    storage.write_bytes(path, encode_nifti(volumes))


WRITERS = {"hdf5": write_hdf5, "nii.gz": write_nifti}


def session_files(world: World, subject: str, session: int) -> dict[str, str]:
    """Path of a session's betas by format: HDF5, and NIfTI too for the first subject's first one."""
    formats = ["hdf5"]
    if subject == world.subjects[0] and session == 1:
        formats.append("nii.gz")
    return {
        name: files.session_betas(
            subject, space=world.space, version=world.betas, session=session, file_format=name
        )
        for name in formats
    }


def write_subject(bucket: Path, world: World, *, subject: str, drawn: Sequence[scenes.Scene]) -> None:
    """Everything that belongs to one subject."""
    tuning = brains.draw_tuning(
        world.generator(subject, "tuning"),
        voxels=world.voxels_of(subject),
        mean_ceiling=world.noise_ceiling,
    )
    planned = planned_ids(world)[subject]
    seen, which = np.unique(planned, return_inverse=True)
    signal = brains.noise_free_signal(tuning, [drawn[number] for number in seen])
    table = responses(world, subject).to_csv(sep="\t", index=False, na_rep="NaN")
    storage.write_bytes(bucket / files.responses(subject), table.encode())
    write_regions(bucket, world, subject=subject, labels=tuning.label)
    sessions = [
        write_session(bucket, world, subject=subject, session=session, signal=part, tuning=tuning)
        for session, part in _sessions(world, signal[which])
    ]
    write_ncsnr(bucket, world, subject=subject, betas=np.concatenate(sessions), ids=planned)
    write_ground_truth(bucket, subject=subject, tuning=tuning, signal=signal, ids=seen)


def _sessions(world: World, signal: np.ndarray) -> list[tuple[int, np.ndarray]]:
    parts = signal.reshape(-1, world.trials_per_session, signal.shape[1])
    return list(enumerate(parts, start=1))


def write_session(
    bucket: Path,
    world: World,
    *,
    subject: str,
    session: int,
    signal: np.ndarray,
    tuning: brains.Tuning,
) -> np.ndarray:
    """Writes the betas of a session; returns them normalised: float32 (trials, brain voxels)."""
    betas = session_betas(world, subject=subject, session=session, signal=signal, tuning=tuning)
    brain = place_brain(world, subject)
    volumes = np.zeros((int(np.prod(brain.shape)), len(betas)), np.int16)
    volumes[brain.index] = to_units(betas).T
    for name, path in session_files(world, subject, session).items():
        WRITERS[name](bucket / path, volumes.reshape(*brain.shape, -1))
    deviation = betas.std(axis=0)
    centred = betas - betas.mean(axis=0)
    return np.divide(centred, deviation, out=np.zeros_like(betas), where=deviation > 0)


def write_ncsnr(
    bucket: Path, world: World, *, subject: str, betas: np.ndarray, ids: np.ndarray
) -> None:
    """ncsnr.nii.gz, estimated from the betas as NSD does."""
    values = estimate_ncsnr(betas, ids).astype(np.float32)
    path = bucket / files.signal_to_noise(subject, space=world.space, version=world.betas)
    storage.write_bytes(path, encode_nifti(volume(place_brain(world, subject), values, outside=0)))


def write_ground_truth(
    bucket: Path, *, subject: str, tuning: brains.Tuning, signal: np.ndarray, ids: np.ndarray
) -> None:
    """What only a simulation knows: tuning, and the noise-free signal float16 of each picture."""
    arrays = {f"tuning/{name}": value for name, value in vars(tuning).items()}
    arrays |= {"signal": signal.astype(np.float16), "id": ids}
    storage.write_arrays(bucket / "ground_truth" / f"{subject}.h5", arrays)


def write_bucket(bucket: Path, world: World) -> None:
    """Writes the whole bucket.

    Raises:
        ConfigError: sessions, trials and pictures do not fit together.
    """
    require_whole_design(world)
    drawn = draw_pictures(world)
    write_design(bucket, world)
    write_stimulus_information(bucket, world)
    write_stimuli(bucket, drawn)
    write_captions(bucket, drawn, world)
    for subject in runtime.progress(world.subjects, description="simulating brains", unit="brain"):
        write_subject(bucket, world, subject=subject, drawn=drawn)
