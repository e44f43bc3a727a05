"""Simulated recordings of one subject: where its voxels lie, and its betas in NSD's formats."""

import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np

from neuraldiffuser import storage
from neuraldiffuser.mini import anatomy, brains
from neuraldiffuser.mini.scenes import Scene
from neuraldiffuser.mini.world import World, planned_ids
from neuraldiffuser.nsd import files
from neuraldiffuser.nsd.betas import UNITS_PER_PERCENT
from neuraldiffuser.nsd.noise_ceiling import estimate_ncsnr

INVALID_SHARE = 0.004  # of the nsdgeneral voxels: zero in all trials of one session
BRAIN_PER_VOXEL = 1.25  # voxels of the brain per voxel of nsdgeneral
SHARE_OF_BOX = 0.75  # of the volume that the rounded brain fills, at least
STEP_OF_STRAY_VOXELS = 20  # every so manieth voxel outside nsdgeneral is labelled hV4
VOXEL_MILLIMETRES = 1.8


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


@dataclass(frozen=True)
class Subject:
    """Everything about one simulated person that lasts over sessions."""

    world: World
    name: str
    brain: Brain
    tuning: brains.Tuning  # of the nsdgeneral voxels
    patterns: np.ndarray  # float32 (patterns, brain voxels), the noise that neighbours share
    gain: np.ndarray  # (brain voxels,) standard deviation of the betas, percent signal change

    @property
    def general(self) -> slice:
        """The nsdgeneral voxels among those of the brain."""
        return slice(0, self.brain.general)


def create_subject(world: World, name: str) -> Subject:
    """Draws a person from the world's seed."""
    brain = place_brain(world, name)
    tuning = brains.draw_tuning(
        world.generator(name, "tuning"),
        voxels=brain.general,
        mean_ceiling=world.settings.noise_ceiling,
    )
    positions = brain.positions.astype(np.float32)
    return Subject(
        world=world,
        name=name,
        brain=brain,
        tuning=tuning,
        patterns=brains.shared_patterns(world.generator(name, "patterns"), positions),
        gain=world.generator(name, "gain").lognormal(0.2, 0.3, len(positions)),
    )


def place_brain(world: World, name: str) -> Brain:
    """A rounded box of voxels: nsdgeneral at the back in the order of its areas, the rest in front.

    The axes differ in length, so that a transposed volume cannot pass unnoticed.
    """
    general = world.voxels_of(name)
    edge = np.cbrt(general * BRAIN_PER_VOXEL / SHARE_OF_BOX)
    z = int(np.ceil(0.84 * edge))
    x = max(int(np.ceil(0.95 * edge)), z + 1)
    shape = (x, max(int(np.ceil(1.25 * edge)), x + 1), z)
    corners = np.indices(shape).reshape(3, -1).T
    middle = (np.array(shape) - 1) / 2
    inside = (np.abs((corners - middle) / (middle + 0.5)) ** 4).sum(axis=1) < 1
    within = corners[inside]
    jitter = world.generator(name, "volume").normal(0, 1, len(within))
    order = np.argsort(within[:, 1] + jitter, kind="stable")
    return Brain(shape=shape, positions=within[order], general=general)


# --- a session's betas -------------------------------------------------------------------------


def record_session(subject: Subject, *, session: int, signal: np.ndarray) -> np.ndarray:
    """Betas of one session in percent signal change: float32 (trials, brain voxels).

    Every session shifts and stretches each voxel a little; some voxels are zero throughout.

    Args:
        subject: whose brain.
        session: 1-based.
        signal: (trials, nsdgeneral voxels) noise-free, variance one.
    """
    rng = subject.world.generator(subject.name, "session", session)
    betas = brains.draw_noise(
        rng,
        trials=len(signal),
        patterns=subject.patterns,
        shared=subject.world.settings.shared_noise,
    )
    noise = brains.noise_deviation(subject.tuning)
    heard = (signal + noise * betas[:, subject.general]) / np.sqrt(1 + noise**2)
    responses = np.concatenate([heard, betas[:, subject.brain.general :]], axis=1)
    voxels = responses.shape[1]
    drift = rng.normal(0.6, 0.4, voxels) + responses * rng.lognormal(0, 0.1, voxels)
    drift[:, invalid_voxels(subject, session)] = 0
    return (subject.gain * drift).astype(np.float32)


def invalid_voxels(subject: Subject, session: int) -> np.ndarray:
    """nsdgeneral voxels that left the field of view in a session."""
    rng = subject.world.generator(subject.name, "invalid")
    number = max(1, round(INVALID_SHARE * subject.brain.general))
    chosen = rng.choice(subject.brain.general, number, replace=False)
    lost_in = rng.integers(1, subject.world.sessions[subject.name] + 1, size=number)
    return chosen[lost_in == session]


def normalise_session(betas: np.ndarray) -> np.ndarray:
    """Mean 0 and deviation 1 down each voxel; constant voxels become 0."""
    deviation = betas.std(axis=0)
    centred = betas - betas.mean(axis=0)
    return np.divide(centred, deviation, out=np.zeros_like(betas), where=deviation > 0)


# --- files -------------------------------------------------------------------------------------


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


def to_units(betas: np.ndarray) -> np.ndarray:
    """Percent signal change to NSD's int16."""
    return np.round(betas * UNITS_PER_PERCENT).clip(-32768, 32767).astype(np.int16)


def write_hdf5(path: Path, volumes: np.ndarray) -> None:
    """Writes int16 (x, y, z, trials) in NSD's layout: dataset ``betas`` (trials, z, y, x),
    uncompressed, one voxel per chunk."""
    columns = np.ascontiguousarray(volumes.transpose(2, 1, 0, 3))
    trials = columns.shape[3]
    with storage.create_arrays(path) as file:
        betas = file.create_dataset(
            "betas", (trials, *columns.shape[:3]), np.int16, chunks=(trials, 1, 1, 1)
        )
        for place in np.ndindex(columns.shape[:3]):
            betas.id.write_direct_chunk((0, *place), columns[place].tobytes())


def write_nifti(path: Path, volumes: np.ndarray) -> None:
    """Writes int16 (x, y, z, trials)."""
    storage.write_bytes(path, encode_nifti(volumes))


WRITERS = {"hdf5": write_hdf5, "nii.gz": write_nifti}


def session_files(subject: Subject, session: int) -> dict[str, str]:
    """Path of a session's betas by format: HDF5, and once NIfTI too."""
    once = subject.name == subject.world.subjects[0] and session == 1
    return {
        name: files.session_betas(
            subject.name, version=subject.world.betas, session=session, file_format=name
        )
        for name in (("hdf5", "nii.gz") if once else ("hdf5",))
    }


def write_session(bucket: Path, subject: Subject, *, session: int, betas: np.ndarray) -> None:
    """Writes the betas (trials, brain voxels) of a session, in percent signal change."""
    shape = subject.brain.shape
    volumes = np.zeros((int(np.prod(shape)), len(betas)), np.int16)
    volumes[subject.brain.index] = to_units(betas).T
    for name, path in session_files(subject, session).items():
        WRITERS[name](bucket / path, volumes.reshape(*shape, -1))


def write_regions(bucket: Path, subject: Subject) -> None:
    """nsdgeneral and prf-visualrois: -1 outside the cortex, 0 in other cortex.

    Some voxels of the visual areas lie outside nsdgeneral, as in NSD.
    """
    areas = np.zeros(len(subject.brain.positions), np.int16)
    areas[subject.general] = subject.tuning.label
    areas[subject.brain.general :][::STEP_OF_STRAY_VOXELS] = 7
    general = np.zeros_like(areas)
    general[subject.general] = 1
    for name, values in (("nsdgeneral", general), ("prf-visualrois", areas)):
        path = bucket / files.region_mask(subject.name, name=name)
        storage.write_bytes(path, encode_nifti(volume(subject.brain, values, outside=-1)))


def write_mean_volume(bucket: Path, subject: Subject) -> None:
    """mean.nii.gz, which shows where the regions lie; no number depends on it."""
    inside = volume(subject.brain, np.ones(len(subject.brain.positions), bool), outside=False)
    rng = subject.world.generator(subject.name, "anatomy")
    mean = anatomy.draw_mean_volume(rng, inside=inside)
    storage.write_bytes(bucket / files.mean_volume(subject.name), encode_nifti(mean))


def write_ncsnr(bucket: Path, subject: Subject, *, betas: np.ndarray, ids: np.ndarray) -> None:
    """ncsnr.nii.gz, estimated as NSD does from the normalised betas (trials, brain voxels)."""
    values = estimate_ncsnr(betas, ids).astype(np.float32)
    path = bucket / files.signal_to_noise(subject.name, version=subject.world.betas)
    storage.write_bytes(path, encode_nifti(volume(subject.brain, values, outside=0)))


def write_ground_truth(
    bucket: Path, subject: Subject, *, signal: np.ndarray, ids: np.ndarray
) -> None:
    """What only a simulation knows: each voxel's tuning, and its noise-free signal (pictures,
    voxels) float16; ``index`` places the voxels in the volume."""
    arrays = {f"tuning/{name}": value for name, value in vars(subject.tuning).items()}
    arrays |= {"signal": signal.astype(np.float16), "id": ids}
    arrays["index"] = subject.brain.index[subject.general]
    storage.write_arrays(bucket / files.ground_truth(subject.name), arrays)


def write_recordings(bucket: Path, world: World, *, name: str, drawn: Sequence[Scene]) -> None:
    """Writes everything that comes from one subject's brain.

    Args:
        bucket: the folder.
        world: the world.
        name: such as "subj01".
        drawn: the scene of every 73k id, in order.
    """
    subject = create_subject(world, name)
    planned = planned_ids(world)[name]
    seen, which = np.unique(planned, return_inverse=True)
    signal = brains.noise_free_signal(subject.tuning, [drawn[number] for number in seen])
    normalised = []
    for session, trials in enumerate(which.reshape(-1, world.settings.trials_per_session), start=1):
        betas = record_session(subject, session=session, signal=signal[trials])
        write_session(bucket, subject, session=session, betas=betas)
        normalised.append(normalise_session(betas))
    write_regions(bucket, subject)
    write_mean_volume(bucket, subject)
    write_ncsnr(bucket, subject, betas=np.concatenate(normalised), ids=planned)
    write_ground_truth(bucket, subject, signal=signal, ids=seen)
