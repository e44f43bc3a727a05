"""Reconstructions of all shards of a tiny subject, also by processes that are killed."""

import multiprocessing
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import numpy as np
import reconstruct_images as script
import tiny_engine
import torch

from neuraldiffuser import runtime, storage
from neuraldiffuser.config.reconstruction import Variant
from neuraldiffuser.diffusion import reconstruct as library

IDS = np.arange(7, 1207, 100)
LAYERS = (2, 4, 6, 8, 10, 12)
# Guided by another test image, whichever shard that is in.
VARIANT = Variant(scale=0.05, strength=0.5, features="another_image")


def write_embeddings(folder: Path) -> list[Path]:
    """embeddings/{target}/subj01.h5 of twelve test images, and the receipt of their models."""
    tiny_engine.write_receipt(folder)
    made = tiny_engine.make_embeddings([f"clip_image_{layer:02d}" for layer in LAYERS], IDS)
    named = {"vae_latent": made.latents, "clip_text": made.texts, **made.features}
    for target, rows in named.items():
        arrays = {"test/id": IDS, "test/embedding": rows.astype(np.float32)}
        arrays["validation/id"] = np.array([], np.int64)
        origin = tiny_engine.describe_origin(target)
        storage.write_arrays(folder / target / "subj01.h5", arrays, origin)
    return [folder / target / "subj01.h5" for target in named]


@dataclass(frozen=True)
class Job:
    """All shards of a subject, one after the other, as a process makes them.

    Attributes:
        embeddings: files of `write_embeddings`.
        models: folders of Stable Diffusion and CLIP.
        folder: where the shards go; those that are there are left alone.
        shards: their number.
        threads: of the process.
        batch_size: samples together.
        bits: the files hold every bit of the latents instead of images, which would hide the last.
        dies: the process is killed in this shard while it does that (a key of DEATHS).
    """

    embeddings: list[Path]
    models: dict[str, Path]
    folder: Path
    shards: int = 10
    threads: int = 1
    batch_size: int = 4
    bits: bool = True
    dies: tuple[int, str] | None = None

    @property
    def paths(self) -> list[Path]:
        """The files of all shards."""
        return [self.folder / f"shard-{shard}.h5" for shard in range(self.shards)]

    def run(self) -> None:
        """Makes what is missing, in this process, whose threads it sets."""
        runtime._execution = runtime.Execution(threads=self.threads)
        torch.set_num_threads(self.threads)
        if not self.bits:
            self.make_missing()
            return
        with patch.multiple(library, decode_in_parts=keep_latents, as_bytes=bits_of_latents):
            self.make_missing()

    def make_missing(self) -> None:
        """Makes the shards that have no file."""
        for shard, path in enumerate(self.paths):
            if path.exists():
                continue
            if self.dies and self.dies[0] == shard:
                DEATHS[self.dies[1]]()
            self.reconstruct(shard, path)

    def reconstruct(self, shard: int, path: Path) -> None:
        """Makes one shard."""
        settings = tiny_engine.make_settings(
            shards=self.shards, repeats=3, steps=6, batch_size=self.batch_size
        )
        script.reconstruct_images(
            paths_to_conditions=self.embeddings[:2],
            paths_to_guiding=self.embeddings[2:],
            paths_to_encoder=(),
            paths_to_models=self.models,
            paths_to_receipts=[self.embeddings[0].parents[1] / "receipt.json"],
            paths_to_calibrations=(),
            path_to_reconstructions=path,
            name="wrong_image",
            shard=shard,
            settings=settings.image_settings["guided"],
            variant=VARIANT,
            clip_image=tiny_engine.CLIP_IMAGE,
            missing_repeats="skipped",
            seed=42,
        )


def keep_latents(_model, latents: torch.Tensor, _together: int) -> torch.Tensor:
    """In the place of decoding."""
    return latents


def bits_of_latents(latents: torch.Tensor) -> np.ndarray:
    """The bytes of float32 latents (n, c, h, w) in the shape of images, uint8 (n, 1, 1, bytes)."""
    assert latents.dtype == torch.float32
    return latents.numpy().view(np.uint8).reshape(len(latents), 1, 1, -1)


def die(*_arguments, **_options) -> None:
    """Ends this process as no handler can prevent."""
    os.kill(os.getpid(), signal.SIGKILL)


def die_after_steps(steps: int = 3) -> None:
    """Makes this process die after so many more steps."""
    original, done = script.reconstruct, []

    def reconstruct(*arguments, **options):
        return original(*arguments, **options | {"progress": count})

    def count(samples: int) -> None:
        done.append(samples)
        if len(done) == steps:
            die()

    script.reconstruct = reconstruct


def die_before_renaming() -> None:
    """Makes this process die once a file is written but does not have its name yet."""
    storage.os.replace = die


DEATHS: dict[str, Callable[[], None]] = {
    "sampling": die_after_steps,
    "writing": die_before_renaming,
}


def run_apart(job: Job) -> int:
    """Runs a job in a process of its own; its exit code."""
    process = multiprocessing.get_context("spawn").Process(target=job.run)
    process.start()
    process.join(300)
    return process.exitcode
