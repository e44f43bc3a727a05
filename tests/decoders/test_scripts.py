"""The four scripts on planted brains: what is planted is found, what is shuffled is not."""

import numpy as np
import pytest
from collect_ground_truth import collect_ground_truth
from finetune_decoder import finetune_decoder
from planted_world import ORIGIN, small_recipe
from predict_embeddings import predict_embeddings
from pretrain_decoder import pretrain_decoder

from neuraldiffuser import storage
from neuraldiffuser.config.decoder import Budget, PriorSampling

BUDGET = Budget(epochs=15, samples_per_epoch=300, batch_size=30)
PRIOR_SAMPLING = PriorSampling(prior_samples=4, prior_steps=5, prior_sampling="exact")


def run_all(world, target, folder, path_to_target=None):
    """Pretrains on subjects 2 and 3, finetunes on and predicts for subject 1."""
    voxels = [world / f"voxels/subj{number:02d}.h5" for number in (1, 2, 3)]
    path_to_target = path_to_target or world / f"targets/{target}.h5"
    paths = {name: folder / f"{name}.safetensors" for name in ("pretrained", "finetuned")}
    recipe = small_recipe(budget=BUDGET)
    pretrain_decoder(
        paths_to_voxels=voxels[1:],
        path_to_target=path_to_target,
        paths_to_teacher=[],
        path_to_decoder=paths["pretrained"],
        path_to_curve=folder / "pretrained_curve.csv",
        target=target,
        recipe=recipe,
    )
    finetune_decoder(
        path_to_voxels=voxels[0],
        path_to_target=path_to_target,
        path_to_pretrained=paths["pretrained"],
        paths_to_teacher=[],
        path_to_decoder=paths["finetuned"],
        path_to_curve=folder / "finetuned_curve.csv",
        validation_images=20,
        recipe=recipe,
    )
    predict_embeddings(
        path_to_voxels=voxels[0],
        path_to_target=path_to_target,
        path_to_decoder=paths["finetuned"],
        path_to_embeddings=folder / "embeddings.h5",
        prior_sampling=PRIOR_SAMPLING,
        alignment="validation_predictions" if target == "vae_latent" else "none",
        test_average="voxels",
        missing_repeats="skipped",
        seed=3,
    )
    return folder / "embeddings.h5"


def correlation(path_to_embeddings, path_to_target, group="test", name="embedding"):
    """Pearson r per dimension over images, averaged."""
    ids = storage.read_array(path_to_embeddings, f"{group}/id")
    decoded = storage.read_array(path_to_embeddings, f"{group}/{name}").reshape(len(ids), -1)
    true = storage.read_rows(path_to_target, ids).reshape(len(ids), -1).astype(float)
    pairs = zip(decoded.T, true.T, strict=True)
    return np.mean([np.corrcoef(ours, theirs)[0, 1] for ours, theirs in pairs])


@pytest.fixture(scope="module", params=["clip_text", "vae_latent"])
def decoded(request, world, tmp_path_factory):
    target = request.param
    return target, run_all(world, target, tmp_path_factory.mktemp(target))


def test_planted_signal_is_decoded_from_images_never_seen(decoded, world):
    target, path = decoded
    path_to_target = world / f"targets/{target}.h5"
    assert correlation(path, path_to_target) > 0.5
    assert correlation(path, path_to_target, group="validation") > 0.5


def test_decoding_beats_the_mean_predictor(decoded, world):
    target, path = decoded
    name = "unaligned" if target == "vae_latent" else "embedding"
    ids = storage.read_array(path, "test/id")
    true = storage.read_rows(world / f"targets/{target}.h5", ids).astype(float)
    mean = storage.read_rows(world / f"targets/{target}.h5", np.arange(100)).mean(0, dtype=float)
    errors = [
        np.square(guess - true).mean() for guess in (storage.read_array(path, f"test/{name}"), mean)
    ]
    assert errors[0] < 0.8 * errors[1]


def test_shuffled_targets_cannot_be_decoded(world, tmp_path):
    generator = np.random.default_rng(0)
    rows = storage.read_array(world / "targets/clip_text.h5", "embedding")
    shuffled = tmp_path / "clip_text.h5"
    order = np.concatenate([generator.permutation(300), np.arange(300, 400)])
    storage.write_arrays(shuffled, {"id": np.arange(400), "embedding": rows[order]})
    path = run_all(world, "clip_text", tmp_path, path_to_target=shuffled)
    assert abs(correlation(path, world / "targets/clip_text.h5")) < 0.3


def test_layout_of_embeddings(decoded):
    target, path = decoded
    with storage.open_arrays(path) as file:
        names = {group: sorted(file[group]) for group in file}
        shapes = {name: file[f"test/{name}"].shape for name in file["test"]}
    extra = "unaligned" if target == "vae_latent" else "projection"
    assert names == {group: sorted(["embedding", extra, "id"]) for group in ("test", "validation")}
    assert shapes["embedding"][0] == shapes["id"][0] == 30
    if target == "clip_text":
        assert shapes["projection"] == (30, 40)
    attributes = storage.read_attributes(path)
    assert (attributes["target"], attributes["subject"]) == (target, "subj01")
    assert attributes.items() >= ORIGIN.items()
    ids = storage.read_array(path, "validation/id")
    assert len(ids) == 20 and (np.diff(ids) > 0).all() and ids.max() < 100


def test_ground_truth_has_the_same_layout(world, tmp_path):
    path = tmp_path / "stimulus.h5"
    collect_ground_truth(
        paths_to_voxels=[world / "voxels/subj01.h5", world / "voxels/subj02.h5"],
        path_to_target=world / "targets/clip_text.h5",
        path_to_embeddings=path,
        target="clip_text",
        validation_images=15,
        seed=3,
    )
    assert correlation(path, world / "targets/clip_text.h5") == pytest.approx(1)
    np.testing.assert_array_equal(storage.read_array(path, "test/id"), np.arange(300, 330))
    validation = storage.read_array(path, "validation/id")
    assert len(validation) == 15 and validation.max() < 200
    assert storage.read_attributes(path) == ORIGIN | {"target": "clip_text", "subject": "stimulus"}
