"""Extractions of every kind of target from the tiny bucket, also by processes that are killed."""

import multiprocessing
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tiny_bucket
from extract_clip_image import extract_clip_image
from extract_clip_text import extract_clip_text
from extract_vae_latent import extract_vae_latent

from neuraldiffuser import runtime, storage
from neuraldiffuser.config.models import PinnedFile
from neuraldiffuser.config.targets import ClipImageSettings, ClipTextSettings, VaeLatentSettings
from neuraldiffuser.features import store, targets
from neuraldiffuser.models.check import check_file
from neuraldiffuser.nsd import files

SESSIONS = dict.fromkeys(tiny_bucket.SUBJECTS, 3)
LAYERS = (2, 6, 12)
LATENT = VaeLatentSettings(autoencoder="stable_diffusion", image_size=32, source_size=None)


@dataclass(frozen=True)
class Sources:
    """Where everything lies that extractions read."""

    bucket: Path
    annotations: Sequence[Path]
    stable_diffusion: Path
    clip: Path
    receipts: Path

    @property
    def stimuli(self) -> Path:
        """The pictures."""
        return self.bucket / files.STIMULI

    @property
    def responses(self) -> list[Path]:
        """Which subject saw which."""
        return [self.bucket / files.responses(subject) for subject in tiny_bucket.SUBJECTS]


def check(sources: Sources, model: Path) -> list[Path]:
    """Receipts of all files of a model, or of a part of it."""
    found = []
    for path in sorted(path for path in model.rglob("*") if path.is_file()):
        found.append(sources.receipts / model.name / f"{path.relative_to(model)}.json")
        receipt = check_file(path, PinnedFile(), loader="stable_diffusion", key="")
        storage.write_json(found[-1], receipt)
    return found


def extract_latents(sources: Sources, folder: Path, **changes) -> list[Path]:
    """Draws, so that the order of random numbers would show."""
    path = folder / "vae_latent.h5"
    defaults = {"settings": LATENT.model_copy(update={"posterior": "sample"}), "seed": 0}
    extract_vae_latent(
        path_to_stimuli=sources.stimuli,
        paths_to_responses=sources.responses,
        path_to_weights=sources.stable_diffusion / "vae" / "diffusion_pytorch_model.safetensors",
        paths_to_receipts=check(sources, sources.stable_diffusion / "vae"),
        path_to_target=path,
        sessions=SESSIONS,
        **{"precision": "float32", "dtype": "float32"} | defaults | changes,
    )
    return [path]


def extract_texts(sources: Sources, folder: Path, **changes) -> list[Path]:
    """The mean over captions."""
    path = folder / "clip_text.h5"
    extract_clip_text(
        path_to_information=sources.bucket / files.STIMULUS_INFORMATION,
        paths_to_annotations=sources.annotations,
        paths_to_responses=sources.responses,
        path_to_weights=sources.stable_diffusion / "text_encoder" / "model.safetensors",
        paths_to_receipts=check(sources, sources.stable_diffusion),
        path_to_target=path,
        sessions=SESSIONS,
        **{"precision": "float32", "dtype": "float32", "settings": ClipTextSettings()} | changes,
    )
    return [path]


def extract_layers(sources: Sources, folder: Path, **changes) -> list[Path]:
    """Three layers, in one pass."""
    paths = [folder / f"clip_image_{layer:02d}.h5" for layer in LAYERS]
    settings = ClipImageSettings(layers=LAYERS, node="block_output", normalisation="clip")
    extract_clip_image(
        path_to_stimuli=sources.stimuli,
        paths_to_responses=sources.responses,
        path_to_weights=sources.clip / "open_clip_model.safetensors",
        paths_to_receipts=check(sources, sources.clip),
        paths_to_targets=paths,
        sessions=SESSIONS,
        **{"precision": "float32", "dtype": "float32", "settings": settings} | changes,
    )
    return paths


EXTRACTIONS = {"latents": extract_latents, "texts": extract_texts, "layers": extract_layers}


@dataclass(frozen=True)
class Job:
    """An extraction as a process does it."""

    kind: str
    sources: Sources
    folder: Path
    threads: int = 1
    batch_size: int = 8
    dies_at: int = -1  # batches that are written before the process is killed

    def run(self) -> list[Path]:
        """Extracts in this process; a run can go on after each second batch."""
        store.PIECE = 2 * self.batch_size
        targets.LARGEST_BATCH = {"cpu": self.batch_size}
        runtime._execution = runtime.Execution(threads=self.threads)
        if self.dies_at >= 0:
            die_at(self.dies_at)
        return EXTRACTIONS[self.kind](self.sources, self.folder)


def die_at(calls: int) -> None:
    """Makes this process send itself SIGKILL when so many more rows have been written."""
    original, done = store.write_rows, []

    def write_rows(*arguments) -> None:
        if len(done) == calls:
            os.kill(os.getpid(), signal.SIGKILL)
        done.append(1)
        original(*arguments)

    store.write_rows = write_rows


def run_apart(job: Job) -> int:
    """Runs a job in a process of its own; its exit code."""
    process = multiprocessing.get_context("spawn").Process(target=job.run)
    process.start()
    process.join(120)
    return process.exitcode
