"""Images do not depend on how samples are put into batches, orders, shards and threads."""

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_engine import (
    IDS,
    guided_by,
    in_float32,
    make_embeddings,
    make_engine,
    make_settings,
    make_source,
)

from neuraldiffuser import runtime
from neuraldiffuser.config.targets import ClipImageSettings
from neuraldiffuser.diffusion import memory
from neuraldiffuser.diffusion import reconstruct as module
from neuraldiffuser.diffusion.guidance import Guidance
from neuraldiffuser.diffusion.guidance.clip_layers import build_clip_layers
from neuraldiffuser.diffusion.memory import BatchPlan, Parts
from neuraldiffuser.diffusion.models import load_latent_diffusion
from neuraldiffuser.diffusion.reconstruct import (
    Batch,
    as_bytes,
    decode_in_parts,
    plan_batches,
    reconstruct,
    sample_batch,
)
from neuraldiffuser.errors import DataError


@pytest.fixture(scope="module")
def guided(guidance):
    return guided_by(guidance, scale=2e-2, strength=0.4)


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


def test_repeats_seeds_and_guidance_change_images(model, scheduler, guidance, guided, whole):
    assert not np.array_equal(whole[:, 0], whole[:, 1])
    assert not np.array_equal(run(model, scheduler, guided, seed=8), whole)
    assert not np.array_equal(
        run(model, scheduler, guided_by(guidance, scale=0.0, strength=0.4)), whole
    )
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
    images = as_bytes(decode_in_parts(model, latents))
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


@pytest.mark.parametrize("shape", [(16, 8, 8), (4, 12, 12), (4, 8, 12)])
def test_latents_of_another_model_or_size_are_refused(model, scheduler, shape):
    embeddings = replace(make_embeddings(()), latents=np.zeros((3, *shape)))
    with pytest.raises(DataError) as error:
        reconstruct(embeddings, make_engine(model, scheduler, make_settings()), repeats=1)
    assert str(error.value) == (
        f"Embeddings of vae_latent have shape {shape}, but the denoiser was trained on (4, 8, 8);"
        " set targets.vae_latent.image_size and decode them for the model that"
        " models.stable_diffusion names."
    )


# --- float32: the same bytes at equal batch size ---------------------------------------------

MANY = np.arange(100, 110)


@pytest.fixture(scope="module")
def single(path_to_stable_diffusion, path_to_clip, scheduler):
    """Latents in float32, as jobs compute them: 10 images, two repeats, in batches of eight."""
    model = load_latent_diffusion(path_to_stable_diffusion)
    model.denoiser.attention.to_q.weight.mul_(20)
    clip_image = ClipImageSettings(node="block_output", normalisation="clip", antialias=True)
    function = build_clip_layers(make_source(path_to_clip, clip_image))

    def run(ids=MANY, *, repeats=2, batch_size=8, scale=2e-2):
        engine = make_engine(model, scheduler, make_settings(batch_size=batch_size))
        rounded = in_float32(make_embeddings(function.targets, ids))
        guided = guided_by(function, scale=scale, strength=0.4) if scale else None
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "decode_in_parts", keep_latents)
            patch.setattr(module, "as_bytes", bytes_of_latents)
            return reconstruct(rounded, engine, repeats=repeats, guided=guided)

    return run


def keep_latents(_model, latents, _together):
    """In the place of decoding."""
    return latents


def bytes_of_latents(latents):
    """Every bit of the latents, not rounded to 256 values."""
    return latents.numpy().view(np.uint8).reshape(len(latents), 1, 1, -1)


@pytest.fixture(scope="module")
def latents(single):
    """Those of one shard in one thread."""
    return single()


def run_with(threads, monkeypatch, run, **changes):
    monkeypatch.setattr(runtime, "_execution", runtime.Execution(threads=threads))
    torch.set_num_threads(threads)
    try:
        return run(**changes)
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_change_no_bit(single, latents, monkeypatch, threads):
    assert np.array_equal(run_with(threads, monkeypatch, single), latents)


def test_shards_change_no_bit(single, latents):
    """Ten shards of two samples, each padded to a batch of eight."""
    shards = [single(MANY[k : k + 1]) for k in range(10)]
    assert np.array_equal(np.concatenate(shards), latents)


def test_order_and_neighbours_change_no_bit(single, latents):
    order = np.random.default_rng(0).permutation(10)
    assert np.array_equal(single(MANY[order]), latents[order])
    assert np.array_equal(single(repeats=3)[:, :2], latents)


def test_another_batch_size_changes_last_bits_only(single, latents):
    """Control: the bytes that are compared above do hold the last bits."""
    other = single(batch_size=5)
    assert not np.array_equal(other, latents)
    floats = [np.ascontiguousarray(each).view(np.float32) for each in (other, latents)]
    assert np.quantile(np.abs(floats[0] - floats[1]), 0.99) < 1e-3


# --- padding, clipping, memory ----------------------------------------------------------------


def test_padding_repeats_the_last_sample():
    batch = Batch(np.array([0, 0, 1]), np.array([0, 1, 0])).padded(5)
    assert batch.rows.tolist() == [0, 0, 1, 1, 1]
    assert batch.repeats.tolist() == [0, 1, 0, 0, 0]


def test_batches_go_on_where_they_stopped():
    every = plan_batches(3, repeats=2, batch_size=2)
    rest = plan_batches(3, repeats=2, batch_size=2, start=2)
    assert [(b.rows.tolist(), b.repeats.tolist()) for b in rest] == [
        (b.rows.tolist(), b.repeats.tolist()) for b in every[1:]
    ]


class Overflowing(Guidance):
    """A guidance function whose gradient is infinite for every image."""

    targets = ()

    def __call__(self, images, targets):
        del targets
        return torch.inf * images.flatten(1).sum(dim=1)


@pytest.mark.parametrize(("batch_size", "told"), [(6, [6, 6]), (4, [4, 4, 2, 2])])
def test_clipped_gradients_are_counted(model, scheduler, monkeypatch, caplog, batch_size, told):
    """Six samples in two guided steps, whether or not copies fill the last batch up."""
    monkeypatch.setattr(logging.getLogger("neuraldiffuser"), "propagate", True)
    settings = make_settings(batch_size=batch_size, non_finite_gradients="clip")
    engine = make_engine(model, scheduler, settings)
    guided = guided_by(Overflowing(), scale=1e-3, strength=0.4)
    images = reconstruct(make_embeddings(()), engine, repeats=2, guided=guided)
    assert images.shape == (3, 2, 32, 32, 3)
    assert engine.clipped.total == 12
    steps = engine.schedule.steps[:2] * (len(told) // 2)
    assert caplog.messages == [
        f"Clipped the non-finite gradients of {count} of {count} samples at timestep"
        f" {step.timestep}."
        for count, step in zip(told, steps, strict=True)
    ]


def test_exhausted_memory_halves_the_batch(model, scheduler, guided, whole, monkeypatch, caplog):
    """No more than three samples fit; float64 hides what other batch sizes change."""
    monkeypatch.setattr(logging.getLogger("neuraldiffuser"), "propagate", True)
    denoise = type(model).denoise

    def limited(self, latents, *arguments, **options):
        if len(latents) > 6:  # both predictions of three samples
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB.")
        return denoise(self, latents, *arguments, **options)

    monkeypatch.setattr(type(model), "denoise", limited)
    images = run(model, scheduler, guided)
    assert np.array_equal(images, whole)
    assert caplog.messages[-1] == (
        "Memory is exhausted by 4 samples at a time, 1 guided, 1 decoded with activations computed"
        " twice; goes on with 2 samples at a time, 1 guided, 1 decoded with activations computed"
        " twice."
    )


@pytest.mark.parametrize("parts", [Parts(1, 1), Parts(3, 2)])
def test_the_parts_of_a_plan_are_kept_to(model, scheduler, guided, whole, monkeypatch, parts):
    sizes, decode = [], type(model).decode
    monkeypatch.setattr(module, "plan_work", lambda *_, **__: BatchPlan(6, parts))
    monkeypatch.setattr(
        type(model), "decode", lambda self, z: sizes.append(len(z)) or decode(self, z)
    )
    images = run(model, scheduler, guided)
    assert np.array_equal(images, whole)
    assert max(sizes) == parts.decoded


class Recomputing(Guidance):
    """A guidance function whose gradient is infinite, and whose second batch lacks memory once."""

    targets = ()

    def __init__(self):
        self.calls = 0

    def __call__(self, images, targets):
        self.calls += 1
        if self.calls == 4:  # the second step of the second batch
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB.")
        return Overflowing()(images, targets)


def test_gradients_of_a_batch_that_is_computed_again_are_counted_once(model, scheduler):
    """Four samples in one batch, of two in the next, each in two guided steps."""
    settings = make_settings(batch_size=4, non_finite_gradients="clip")
    engine = make_engine(model, scheduler, settings)
    guided = guided_by(Recomputing(), scale=1e-3, strength=0.4)
    reconstruct(make_embeddings(()), engine, repeats=2, guided=guided)
    assert guided.function.terms["function"][0].calls > 4
    assert engine.clipped.total == 12


@pytest.mark.parametrize(("network", "sample"), [("denoise", 3), ("decode", 1)])
def test_what_is_not_finite_is_refused_by_name(model, scheduler, monkeypatch, network, sample):
    """Without guidance nothing else would tell: NaN is as black as zero."""
    original = getattr(type(model), network)

    def fail(self, latents, *arguments, **options):
        answer = original(self, latents, *arguments, **options)
        if network == "decode":
            answer[sample] = torch.nan
        else:
            answer.noise[sample::4] = torch.nan
        return answer

    monkeypatch.setattr(type(model), network, fail)
    engine = make_engine(model, scheduler, make_settings(self_attention_scale=0))
    with pytest.raises(DataError) as error:
        reconstruct(make_embeddings(()), engine, repeats=2)
    assert str(error.value) == (
        f"The reconstruction of 73k image {IDS[sample // 2]}, repeat 1, is not finite (1 of 4 in"
        " its batch); set reconstruction.precision to float32 or lower the guidance scale."
    )


# --- a GPU, whose memory and kernels nothing here has ---------------------------------------


@pytest.fixture
def on_gpu(model, monkeypatch):
    """The model says that it is on a GPU, though it computes here."""
    pretended = type("Device", (), {"type": "cuda"})()
    monkeypatch.setattr(type(model), "device", property(lambda _: pretended))
    monkeypatch.setattr(type(model), "prepare", lambda _: None)
    monkeypatch.setattr(torch.Tensor, "to", keep_on_cpu(torch.Tensor.to, pretended))
    monkeypatch.setattr(memory, "release_memory", lambda: None)


def keep_on_cpu(move, pretended):
    """`Tensor.to` that leaves tensors where they are."""

    def to(self, *arguments, **options):
        arguments = [part for part in arguments if part is not pretended]
        return move(self, *arguments, **options) if arguments or options else self

    return to


@pytest.mark.usefixtures("on_gpu")
def test_networks_are_compiled_for_each_plan_that_is_tried(
    model, scheduler, guided, whole, monkeypatch
):
    """Memory that compiling exhausts is like any other."""
    compiled = []

    def compile_networks(_model, plan, _settings, *, step, shape):
        compiled.append((plan, step, shape))
        if len(compiled) < 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB.")

    plan = BatchPlan(4, Parts(guided=2, decoded=1))
    monkeypatch.setattr(module, "compile_networks", compile_networks)
    monkeypatch.setattr(module, "choose_plan", lambda *_, **__: plan)
    monkeypatch.setattr(module, "SAMPLES_WORTH_COMPILING", 6)
    images = run(model, scheduler, guided)
    model.recompute_decoder(False)
    assert np.array_equal(images, whole)
    first = make_engine(model, scheduler, make_settings()).schedule.steps[0]
    plans = [plan, plan.reduced(), plan.reduced().reduced()]
    assert compiled == [(each, first, (4, 8, 8)) for each in plans]


@pytest.mark.usefixtures("on_gpu")
def test_few_samples_are_not_worth_compiling(model, scheduler, guided, whole, monkeypatch):
    monkeypatch.setattr(module, "choose_plan", lambda _probe, count: BatchPlan(count))
    monkeypatch.setattr(module, "compile_networks", None)
    assert np.array_equal(run(model, scheduler, guided), whole)


@pytest.mark.parametrize("checkpointed", [True, False])
def test_the_decoder_recomputes_as_planned(model, scheduler, guided, monkeypatch, checkpointed):
    """Also where the batch before it was planned otherwise."""
    model.recompute_decoder(not checkpointed)
    planned = BatchPlan(6, checkpointed=checkpointed)
    monkeypatch.setattr(module, "plan_work", lambda *_, **__: planned)
    run(model, scheduler, guided)
    found = model.autoencoder.decoder.gradient_checkpointing
    model.recompute_decoder(False)
    assert found is checkpointed
