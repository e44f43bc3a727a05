from dataclasses import replace

import numpy as np
import pytest
import torch
from planted_world import small_recipe

from neuraldiffuser.config.decoder import PriorSampling
from neuraldiffuser.decoders import prediction
from neuraldiffuser.decoders.data import read_trials
from neuraldiffuser.decoders.fitting import new_decoder
from neuraldiffuser.decoders.prediction import TEST_AVERAGES, Decoding, decode_rows, select_trials
from neuraldiffuser.decoders.prior import SAMPLING_STEPS, cosine_schedule, draw_noise, sample
from neuraldiffuser.nsd.voxels import read_voxels

SETTINGS = PriorSampling(prior_samples=2, prior_steps=4, prior_sampling="exact")


@pytest.fixture(scope="module")
def voxels(world):
    return read_voxels(world / "voxels/subj01.h5")


@pytest.fixture(scope="module")
def decoders(world):
    made = {}
    torch.manual_seed(0)
    for target in ("clip_text", "vae_latent"):
        trials = read_trials([world / "voxels/subj01.h5"], world / f"targets/{target}.h5")
        made[target] = new_decoder(target, trials, small_recipe())
        made[target].model.eval()
    # An untrained residual prior is silent; here it has to answer to its noise.
    torch.nn.init.normal_(made["clip_text"].model.prior.output.weight, std=0.3)
    return made


def test_rows_do_not_depend_on_their_batch_or_order(decoders, voxels, monkeypatch):
    decoding = Decoding(decoders["clip_text"], "subj01", SETTINGS, 1)
    ids, betas = voxels.averaged("test")
    whole = decode_rows(decoding, betas, ids)
    order = np.random.default_rng(0).permutation(len(ids))
    monkeypatch.setattr(prediction, "BATCH_SIZE", 7)
    shuffled = decode_rows(decoding, betas[order], ids[order])
    np.testing.assert_allclose(shuffled.embedding, whole.embedding[order], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(shuffled.projection, whole.projection[order], rtol=1e-4, atol=1e-5)


def test_draws_are_averaged_and_scaled_back(decoders, voxels):
    decoder = decoders["clip_text"]
    ids, betas = voxels.averaged("test")
    decoded = decode_rows(Decoding(decoder, "subj01", SETTINGS, 1), betas, ids)
    model = decoder.model
    with torch.no_grad():
        brain = model({"subj01": torch.from_numpy(betas)})
        steps = SAMPLING_STEPS["exact"](cosine_schedule(100), 4)
        draws = [
            sample(model.prior, brain, draw_noise(ids, seed=1, draw=draw, shape=(4, 5, 8)), steps)
            for draw in range(2)
        ]
        expected = (draws[0] + draws[1]) / 2 * model.scale + model.mean
        projection = (model.projector(brain) * model.scale + model.mean).flatten(1)
    np.testing.assert_allclose(decoded.embedding, expected.numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(decoded.projection, projection.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "changes",
    [{"prior_samples": 1}, {"prior_steps": 5}, {"prior_sampling": "released"}],
)
def test_every_setting_changes_the_embedding(decoders, voxels, changes):
    ids, betas = voxels.averaged("test")
    changed = SETTINGS.model_copy(update=changes)
    results = [
        decode_rows(Decoding(decoders["clip_text"], "subj01", settings, 1), betas, ids).embedding
        for settings in (SETTINGS, changed)
    ]
    assert not np.allclose(*results)


def test_the_low_level_pipeline_has_no_projection_and_no_randomness(decoders, voxels):
    ids, betas = voxels.averaged("test")
    decoded = [
        decode_rows(Decoding(decoders["vae_latent"], "subj01", SETTINGS, seed), betas, ids)
        for seed in (1, 2)
    ]
    assert decoded[0].embedding.shape == (30, 4, 8, 8)
    assert decoded[0].projection.shape == (30, 0)
    np.testing.assert_array_equal(decoded[0].embedding, decoded[1].embedding)


def test_averaging_voxels_and_outputs_differ_and_join_by_id(decoders, voxels):
    decoding = Decoding(decoders["vae_latent"], "subj01", SETTINGS, 1)
    results = {
        name: average(decoding, voxels.test, "skipped") for name, average in TEST_AVERAGES.items()
    }
    for result in results.values():
        np.testing.assert_array_equal(result.id, np.arange(300, 330))
    assert not np.allclose(results["voxels"].embedding, results["outputs"].embedding)
    rows = np.flatnonzero(voxels.test.id == 307)
    single = decode_rows(decoding, voxels.test.betas[rows], voxels.test.id[rows]).embedding
    np.testing.assert_allclose(
        results["outputs"].embedding[7], single.mean(axis=0), rtol=1e-4, atol=1e-5
    )
    mean = voxels.test.betas[rows].mean(axis=0, keepdims=True)
    np.testing.assert_allclose(
        results["voxels"].embedding[7],
        decode_rows(decoding, mean, np.array([307])).embedding[0],
        rtol=1e-4,
        atol=1e-5,
    )


@pytest.mark.parametrize("place", TEST_AVERAGES)
def test_the_first_of_two_repeats_counts_twice_where_they_are_padded(decoders, voxels, place):
    decoding = Decoding(decoders["vae_latent"], "subj01", SETTINGS, 1)
    shown = select_trials(voxels.test, np.array([307]))
    pair = replace(
        shown,
        betas=shown.betas[:2],
        id=shown.id[:2],
        repeat=np.array([1, 0]),
        session=shown.session[:2],
    )
    found = TEST_AVERAGES[place](decoding, pair, "padded").embedding
    second, first = pair.betas
    tripled = replace(
        pair,
        betas=np.stack([first, second, first]),
        id=np.full(3, 307),
        repeat=np.arange(3),
        session=np.ones(3, np.int64),
    )
    expected = TEST_AVERAGES[place](decoding, tripled, "skipped").embedding
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    skipped = TEST_AVERAGES[place](decoding, pair, "skipped").embedding
    assert not np.allclose(found, skipped, atol=1e-4)


def test_a_voxel_without_data_in_a_session_does_not_dilute_the_mean(decoders, voxels):
    rows = np.flatnonzero(voxels.test.id == 307)[:2]
    betas = voxels.test.betas[rows].copy()
    betas[1, 4] = 0
    valid = np.ones((2, betas.shape[1]), bool)
    valid[1, 4] = False
    trials = replace(
        voxels.test,
        betas=betas,
        id=np.full(2, 307),
        repeat=np.arange(2),
        session=np.array([1, 2]),
        statistics=replace(voxels.statistics, session=np.array([1, 2]), valid=valid),
    )
    decoding = Decoding(decoders["vae_latent"], "subj01", SETTINGS, 1)
    mean = betas.mean(axis=0, keepdims=True)
    mean[0, 4] = betas[0, 4]
    np.testing.assert_allclose(
        TEST_AVERAGES["voxels"](decoding, trials, "skipped").embedding,
        decode_rows(decoding, mean, np.array([307])).embedding,
        rtol=1e-4,
        atol=1e-5,
    )


def test_selection_keeps_all_repeats(voxels):
    chosen = select_trials(voxels.training, np.array([5, 17]))
    assert sorted(chosen.id.tolist()) == [5, 5, 5, 17, 17, 17]
    for row, identity in zip(chosen.betas, chosen.id, strict=True):
        assert (voxels.training.betas[voxels.training.id == identity] == row).all(axis=1).any()
