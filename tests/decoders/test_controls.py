"""The controls on planted brains: they decode what is planted, and read no held-out target."""

import decode_by_ridge as script
import numpy as np
import pandas as pd
import pytest
from decode_by_ridge import decode_by_ridge
from planted_world import ORIGIN, small_recipe
from predict_embeddings import predict_embeddings
from train_from_scratch import train_from_scratch

from neuraldiffuser import storage
from neuraldiffuser.config.decoder import Budget, PriorSampling, RidgeSettings
from neuraldiffuser.decoders.splits import validation_ids
from neuraldiffuser.decoders.store import read_decoder

HELD_OUT = 20
SEED = 3
RECIPE = small_recipe(budget=Budget(epochs=10, samples_per_epoch=300, batch_size=30), seed=SEED)
SHORT = small_recipe(budget=Budget(epochs=1, samples_per_epoch=60, batch_size=30), seed=SEED)
PRIOR_SAMPLING = PriorSampling(prior_steps=3, prior_sampling="exact")


def by_ridge(world, path, *, target="clip_text", path_to_target=None, path_to_voxels=None, **given):
    """Decodes subject 1 by ridge regression."""
    settings = {
        "settings": RidgeSettings(),
        "validation_images": HELD_OUT,
        "missing_repeats": "skipped",
        "alignment": "none",
        "seed": SEED,
    }
    decode_by_ridge(
        path_to_voxels=path_to_voxels or world / "voxels/subj01.h5",
        path_to_target=path_to_target or world / f"targets/{target}.h5",
        path_to_embeddings=path,
        **settings | given,
    )
    return path


def from_scratch(world, path, *, path_to_target=None, recipe=RECIPE):
    """Decodes subject 1 by a network that was never pretrained."""
    paths = {
        "path_to_voxels": world / "voxels/subj01.h5",
        "path_to_target": path_to_target or world / "targets/clip_text.h5",
        "path_to_decoder": path.with_suffix(".safetensors"),
    }
    train_from_scratch(
        **paths,
        path_to_curve=path.with_name(f"{path.stem}_curve.csv"),
        target="clip_text",
        validation_images=HELD_OUT,
        recipe=recipe,
    )
    predict_embeddings(
        **paths,
        path_to_embeddings=path,
        prior_sampling=PRIOR_SAMPLING,
        alignment="none",
        test_average="voxels",
        missing_repeats="skipped",
        seed=SEED,
    )
    return path


CONTROLS = {"ridge": by_ridge, "scratch": from_scratch}


@pytest.fixture(scope="module", params=CONTROLS)
def decoded(request, world, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    return request.param, CONTROLS[request.param](world, folder / "subj01.h5")


def correlation(path, path_to_target, group="test"):
    """Pearson r per dimension over images, averaged."""
    ids = storage.read_array(path, f"{group}/id")
    guess = storage.read_array(path, f"{group}/embedding").reshape(len(ids), -1)
    true = storage.read_rows(path_to_target, ids).reshape(len(ids), -1).astype(float)
    pairs = zip(guess.T, true.T, strict=True)
    return np.mean([np.corrcoef(ours, theirs)[0, 1] for ours, theirs in pairs])


def contents(path):
    """Every array of a file by name."""
    found = {}
    with storage.open_arrays(path) as file:
        for group in file:
            found |= {f"{group}/{name}": rows[()] for name, rows in file[group].items()}
    return found


def change_targets(world, path, ids):
    """The targets of clip_text with noise in place of some images' embeddings."""
    arrays = {
        name: storage.read_array(world / "targets/clip_text.h5", name)
        for name in ("id", "embedding")
    }
    rows = np.isin(arrays["id"], ids)
    noise = np.random.default_rng(0).standard_normal(arrays["embedding"][rows].shape)
    arrays["embedding"][rows] = 10 * noise
    storage.write_arrays(path, arrays)
    return path


def test_planted_signal_is_decoded_from_images_never_seen(decoded, world):
    _, path = decoded
    assert correlation(path, world / "targets/clip_text.h5") > 0.5
    assert correlation(path, world / "targets/clip_text.h5", "validation") > 0.5


def test_layout_is_that_of_the_decoders_embeddings(decoded, world):
    control, path = decoded
    arrays = contents(path)
    names = ["embedding", "id"] + ["projection"] * (control == "scratch")
    assert sorted(arrays) == sorted(
        f"{group}/{n}" for group in ("test", "validation") for n in names
    )
    np.testing.assert_array_equal(arrays["test/id"], np.arange(300, 330))
    own = storage.read_array(world / "voxels/subj01.h5", "training/id")
    np.testing.assert_array_equal(
        arrays["validation/id"], validation_ids(own, count=HELD_OUT, seed=SEED)
    )
    assert arrays["test/embedding"].shape == (30, 5, 8)
    assert arrays["test/embedding"].dtype == np.float32
    attributes = storage.read_attributes(path)
    assert (attributes["target"], attributes["subject"]) == ("clip_text", "subj01")
    assert attributes.items() >= ORIGIN.items()


@pytest.mark.parametrize("control", CONTROLS)
def test_targets_of_test_and_validation_images_have_no_influence(control, world, tmp_path):
    given = {"recipe": SHORT} if control == "scratch" else {}
    path = CONTROLS[control](world, tmp_path / "subj01.h5", **given)
    unseen = np.concatenate([contents(path)[f"{group}/id"] for group in ("test", "validation")])
    changed = change_targets(world, tmp_path / "clip_text.h5", unseen)
    again = CONTROLS[control](world, tmp_path / "again.h5", path_to_target=changed, **given)
    for name, rows in contents(path).items():
        np.testing.assert_array_equal(contents(again)[name], rows, err_msg=name)


@pytest.mark.parametrize("control", CONTROLS)
def test_targets_of_other_training_images_have_influence(control, world, tmp_path):
    """Without this, the test above could pass because nothing is read."""
    given = {"recipe": SHORT} if control == "scratch" else {}
    path = CONTROLS[control](world, tmp_path / "subj01.h5", **given)
    trained = np.setdiff1d(np.arange(100), contents(path)["validation/id"])
    changed = change_targets(world, tmp_path / "clip_text.h5", trained)
    again = CONTROLS[control](world, tmp_path / "again.h5", path_to_target=changed, **given)
    assert not np.allclose(contents(again)["test/embedding"], contents(path)["test/embedding"])


def test_shuffled_targets_cannot_be_decoded(world, tmp_path):
    rows = storage.read_array(world / "targets/clip_text.h5", "embedding")
    order = np.concatenate([np.random.default_rng(0).permutation(300), np.arange(300, 400)])
    shuffled = tmp_path / "clip_text.h5"
    storage.write_arrays(shuffled, {"id": np.arange(400), "embedding": rows[order]})
    path = by_ridge(world, tmp_path / "subj01.h5", path_to_target=shuffled)
    assert abs(correlation(path, world / "targets/clip_text.h5")) < 0.3


def test_ridge_is_aligned_like_the_decoder(world, tmp_path):
    """Equations 6 and 7 give held-out predictions the training targets' mean and deviation."""
    path = by_ridge(
        world, tmp_path / "subj01.h5", target="vae_latent", alignment="validation_predictions"
    )
    arrays = contents(path)
    ids = np.setdiff1d(np.arange(100), arrays["validation/id"])
    true = storage.read_rows(world / "targets/vae_latent.h5", ids).astype(float)
    aligned = arrays["validation/embedding"]
    np.testing.assert_allclose(aligned.mean(0), true.mean(0), atol=1e-4)
    np.testing.assert_allclose(aligned.std(0), true.std(0), rtol=1e-4)
    plain = by_ridge(world, tmp_path / "plain.h5", target="vae_latent")
    np.testing.assert_array_equal(arrays["test/unaligned"], contents(plain)["test/embedding"])
    assert "test/unaligned" not in contents(plain)


def test_missing_repeats_decide_how_voxels_are_averaged(world, tmp_path):
    arrays = {}
    with storage.open_arrays(world / "voxels/subj01.h5") as file:
        attributes = dict(file.attrs)
        for group in file:
            arrays |= {f"{group}/{name}": rows[()] for name, rows in file[group].items()}
    first = np.flatnonzero(arrays["test/id"] == 300)[0]
    fewer = {
        name: np.delete(rows, first, axis=0) if name.startswith("test/") else rows
        for name, rows in arrays.items()
    }
    storage.write_arrays(tmp_path / "voxels.h5", fewer, attributes)
    decoded = {
        name: contents(
            by_ridge(
                world,
                tmp_path / f"{name}.h5",
                path_to_voxels=tmp_path / "voxels.h5",
                missing_repeats=name,
            )
        )["test/embedding"]
        for name in ("skipped", "padded")
    }
    changed = (decoded["skipped"] != decoded["padded"]).reshape(30, -1).any(axis=1)
    np.testing.assert_array_equal(np.flatnonzero(changed), [0])


def test_the_chosen_penalty_is_noted(world, tmp_path):
    settings = RidgeSettings(penalties=(7.0,))
    path = by_ridge(world, tmp_path / "subj01.h5", settings=settings)
    assert storage.read_attributes(path)["penalty"] == 7


def test_ridge_pairs_held_out_images_with_their_voxels_by_id(world, tmp_path, monkeypatch):
    usual = contents(by_ridge(world, tmp_path / "usual.h5"))
    monkeypatch.setattr(
        script, "validation_ids", lambda *ids, **how: validation_ids(*ids, **how)[::-1]
    )
    turned = contents(by_ridge(world, tmp_path / "turned.h5"))
    for arrays in (usual, turned):
        order = np.argsort(arrays["validation/id"])
        arrays |= {name: arrays[name][order] for name in ("validation/id", "validation/embedding")}
    np.testing.assert_array_equal(turned["validation/id"], usual["validation/id"])
    np.testing.assert_array_equal(turned["validation/embedding"], usual["validation/embedding"])


def test_training_from_scratch_leaves_weights_and_curve(world, tmp_path):
    path = from_scratch(world, tmp_path / "subj01.h5", recipe=SHORT)
    curve = pd.read_csv(tmp_path / "subj01_curve.csv")
    assert curve["step"].tolist() == [0, 1]
    assert {"loss", "learning_rate"} <= set(curve.columns)
    decoder = read_decoder(path.with_suffix(".safetensors"))
    assert (decoder.target, decoder.recipe) == ("clip_text", SHORT)
    np.testing.assert_array_equal(decoder.validation_ids, contents(path)["validation/id"])
    assert len(list(tmp_path.iterdir())) == 3
