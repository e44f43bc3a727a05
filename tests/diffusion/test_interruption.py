"""Shards, threads and killed processes change no bit of a reconstruction, in float32."""

import signal
from dataclasses import replace

import numpy as np
import pytest
from reconstruction_jobs import IDS, Job, run_apart, write_embeddings
from tiny_models import LATENT_SHAPE

from neuraldiffuser.diffusion.store import read_reconstructions


@pytest.fixture(scope="module")
def job(tmp_path_factory, path_to_stable_diffusion, path_to_clip) -> Job:
    """Ten shards in batches of four: their last batches are never full."""
    folder = tmp_path_factory.mktemp("reconstructions")
    embeddings = write_embeddings(folder / "embeddings")
    models = {"stable_diffusion": path_to_stable_diffusion, "clip_image": path_to_clip}
    return Job(embeddings, models, folder / "ten")


@pytest.fixture(scope="module")
def uninterrupted(job) -> Job:
    """The ten shards, made by one process with two threads."""
    done = replace(job, threads=2)
    assert run_apart(done) == 0
    return done


def read(job: Job) -> np.ndarray:
    """What the shards of a job hold."""
    ids, content = read_reconstructions(job.paths)
    assert np.array_equal(ids, IDS)
    return content


def test_one_shard_and_ten_give_the_same_latents(job, uninterrupted, tmp_path):
    single = replace(job, folder=tmp_path, shards=1)
    single.run()
    latents = read(single).view(np.float32)
    assert latents.shape == (12, 3, 1, 1, np.prod(LATENT_SHAPE))
    assert latents.std() > 0.1
    assert read(uninterrupted).tobytes() == latents.tobytes()


def test_killed_twice_and_continued_gives_the_same_files(job, uninterrupted, tmp_path):
    """Killed while it samples the third shard, then while it writes the seventh."""
    killed = replace(job, folder=tmp_path)
    assert run_apart(replace(killed, dies=(2, "sampling"))) == -signal.SIGKILL
    assert [path for path in killed.paths if path.exists()] == killed.paths[:2]
    first = killed.paths[0].stat()
    assert run_apart(replace(killed, dies=(6, "writing"))) == -signal.SIGKILL
    assert [path for path in killed.paths if path.exists()] == killed.paths[:6]
    assert (tmp_path / ".shard-6.partial.h5").exists()
    killed.run()
    assert killed.paths[0].stat() == first
    assert sorted(tmp_path.iterdir()) == sorted(killed.paths)
    for path, expected in zip(killed.paths, uninterrupted.paths, strict=True):
        assert path.read_bytes() == expected.read_bytes(), path.name


@pytest.fixture(scope="module")
def images(job, tmp_path_factory):
    """Those of one shard in batches of some size."""

    def run(batch_size):
        folder = tmp_path_factory.mktemp("images")
        single = replace(job, folder=folder, shards=1, batch_size=batch_size, bits=False)
        single.run()
        return read(single).astype(int)

    return run


@pytest.fixture(scope="module")
def usual(images):
    """In batches of four."""
    return images(4)


@pytest.mark.parametrize("batch_size", [1, 16])
def test_another_batch_size_changes_few_values_and_little(images, usual, batch_size):
    """Kernels round otherwise, and the mask of self-attention guidance is a threshold."""
    differences = np.abs(images(batch_size) - usual)
    assert differences.shape == (12, 3, 32, 32, 3)
    assert (differences <= 2).mean() >= 0.999


def test_another_batch_size_does_change_bits(job, uninterrupted, tmp_path):
    """Control: the comparisons above could fail."""
    other = replace(job, folder=tmp_path, shards=1, batch_size=16)
    other.run()
    assert (read(other) != read(uninterrupted)).any()
