"""A very small generated bucket and the paths of its files, for stages that read them."""

from pathlib import Path

from neuraldiffuser.config.mini import WorldSettings
from neuraldiffuser.mini import bucket
from neuraldiffuser.mini.world import World
from neuraldiffuser.nsd import files

VERSION = "betas_fithrf_GLMdenoise_RR"
SUBJECTS = ("subj01", "subj02")


def tiny_world() -> World:
    """Two subjects with 12 shared and 28 own scenes in three sessions of 40 trials."""
    settings = WorldSettings(
        shared_images=12, own_images=28, trials_per_session=40, voxels=(150, 190)
    )
    sessions = dict.fromkeys(SUBJECTS, 3)
    return World(settings=settings, subjects=SUBJECTS, sessions=sessions, betas=VERSION)


def write_tiny_bucket(folder: Path) -> Path:
    """Writes it into ``folder`` (one second)."""
    bucket.write_bucket(folder, tiny_world())
    return folder


def betas_paths(folder: Path, subject: str) -> list[Path]:
    """The subject's betas, session after session."""
    names = files.all_session_betas(
        subject, sessions=(1, 2, 3), version=VERSION, file_format="hdf5"
    )
    return [folder / name for name in names]


def region_paths(folder: Path, subject: str) -> dict[str, Path]:
    """nsdgeneral, visual areas and noise ceilings."""
    return {
        "nsdgeneral": folder / files.region_mask(subject, name="nsdgeneral"),
        "areas": folder / files.region_mask(subject, name="prf-visualrois"),
        "ncsnr": folder / files.signal_to_noise(subject, version=VERSION),
    }
