"""Images do not depend on how samples are put into batches, orders and shards."""

from dataclasses import replace

import numpy as np
import pytest
from tiny_engine import IDS, make_embeddings, make_engine, make_settings

from neuraldiffuser.diffusion.reconstruct import (
    Guided,
    decode_images,
    plan_batches,
    reconstruct,
    sample_batch,
)
from neuraldiffuser.errors import DataError


@pytest.fixture(scope="module")
def guided(guidance):
    return Guided(guidance, scale=2e-2, strength=0.4)


def run(model, scheduler, guided, *, ids=IDS, repeats=2, seed=7, **changes):
    engine = make_engine(model, scheduler, make_settings(**changes), seed=seed)
    embeddings = make_embeddings(guided.function.targets, ids)
    return reconstruct(embeddings, engine, repeats=repeats, guided=guided)


@pytest.fixture(scope="module")
def whole(model, scheduler, guided):
    """All images in batches of four samples."""
    return run(model, scheduler, guided)


def test_images_have_their_shape(whole):
    assert whole.shape == (3, 2, 32, 32, 3)
    assert whole.dtype == np.uint8
    assert whole.std() > 1


@pytest.mark.parametrize("batch_size", [1, 6, 16])
def test_batch_size_does_not_matter(model, scheduler, guided, whole, batch_size):
    """float64: nothing but the last bits differs, and rounding to uint8 hides those."""
    assert np.array_equal(run(model, scheduler, guided, batch_size=batch_size), whole)


def test_order_does_not_matter(model, scheduler, guided, whole):
    assert np.array_equal(run(model, scheduler, guided, ids=IDS[::-1])[::-1], whole)


def test_shards_do_not_matter(model, scheduler, guided, whole):
    parts = [run(model, scheduler, guided, ids=part) for part in (IDS[:1], IDS[1:])]
    assert np.array_equal(np.concatenate(parts), whole)


def test_further_repeats_leave_the_first_alone(model, scheduler, guided, whole):
    assert np.array_equal(run(model, scheduler, guided, repeats=3)[:, :2], whole)


def test_repeats_seeds_and_guidance_change_images(model, scheduler, guided, whole):
    assert not np.array_equal(whole[:, 0], whole[:, 1])
    assert not np.array_equal(run(model, scheduler, guided, seed=8), whole)
    assert not np.array_equal(run(model, scheduler, replace(guided, scale=0.0)), whole)
    assert not np.array_equal(run(model, scheduler, replace(guided, strength=0.7)), whole)


def test_same_input_same_bytes(model, scheduler, guided, whole):
    assert run(model, scheduler, guided).tobytes() == whole.tobytes()


def test_batches_cover_every_sample_once():
    batches = plan_batches(3, repeats=2, batch_size=4)
    pairs = [pair for batch in batches for pair in zip(batch.rows, batch.repeats, strict=True)]
    assert pairs == [(row, repeat) for row in range(3) for repeat in range(2)]
    assert [len(batch.rows) for batch in batches] == [4, 2]


def test_images_are_the_decoded_latents(model, scheduler, guided, whole):
    engine = make_engine(model, scheduler, make_settings())
    (first, _) = plan_batches(3, repeats=2, batch_size=4)
    latents = sample_batch(
        first, make_embeddings(guided.function.targets), engine, guided, lambda _: None
    )
    images = decode_images(model, latents)
    assert np.array_equal(images, whole.reshape(6, 32, 32, 3)[:4])
    decoded = model.autoencoder.decode(latents / model.autoencoder.config.scaling_factor).sample
    expected = ((decoded.permute(0, 2, 3, 1).numpy() + 1) * 127.5).clip(0, 255).round()
    assert np.abs(images - expected).max() <= 1


def test_progress_counts_every_sample_at_every_step(model, scheduler):
    engine, counted = make_engine(model, scheduler, make_settings()), []
    reconstruct(make_embeddings(()), engine, repeats=2, progress=counted.append)
    assert sum(counted) == 3 * 2 * len(engine.schedule.steps)


def test_texts_of_another_model_are_refused(model, scheduler):
    embeddings = replace(make_embeddings(()), texts=np.zeros((3, 77, 768)))
    with pytest.raises(DataError) as error:
        reconstruct(embeddings, make_engine(model, scheduler, make_settings()), repeats=1)
    assert str(error.value) == (
        "Embeddings of clip_text have shape (77, 768), but the text encoder gives (12, 16); decode"
        " them for the model that models.stable_diffusion names."
    )
