import numpy as np
import pytest
import tiny_bucket as bucket_files
import torch
from prepare_voxels import prepare_voxels
from train_encoder import train_encoder

from neuraldiffuser import storage
from neuraldiffuser.decoders.splits import validation_ids
from neuraldiffuser.encoding.prediction import (
    StoredEncoder,
    load_encoder,
    match_voxels,
    predict,
    save_encoder,
)
from neuraldiffuser.errors import DataError
from neuraldiffuser.nsd import files
from neuraldiffuser.nsd.selection import Selection
from neuraldiffuser.nsd.stimuli import read_images
from neuraldiffuser.nsd.voxels import read_voxels


def test_prediction_survives_storage(settings, tmp_path):
    from neuraldiffuser.encoding.gnet import Gnet

    encoder = Gnet(settings.network, voxels=3).eval()
    known = StoredEncoder(encoder, "subj03", np.array([4, 9, 11]), (2, 3, 2), "released")
    save_encoder(tmp_path / "e.safetensors", known, settings=settings.network, metadata={})
    images = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)
    stored = load_encoder(tmp_path / "e.safetensors")
    assert np.array_equal(predict(stored.network, images), predict(encoder, images))
    assert not any(parameter.requires_grad for parameter in stored.network.parameters())
    assert (stored.subject, stored.volume_shape, stored.source) == ("subj03", (2, 3, 2), "released")
    assert stored.index.tolist() == [4, 9, 11]


def test_other_files_are_refused(tmp_path):
    storage.write_tensors(tmp_path / "other.safetensors", {"a": torch.zeros(1)})
    with pytest.raises(DataError, match="holds no encoding model; run train_encoder again"):
        load_encoder(tmp_path / "other.safetensors")


# --- whose voxels an encoder answers for ---

INDEX = np.array([4, 9, 11])


def select(index, shape=(2, 3, 2)):
    zeros = np.zeros(len(index))
    return Selection(volume_shape=shape, index=np.array(index), roi=zeros, noise_ceiling=zeros)


def test_an_encoder_of_these_voxels_passes():
    match_voxels(
        StoredEncoder(None, "subj01", INDEX, (2, 3, 2), "train"), select(INDEX), subject="subj01"
    )


@pytest.mark.parametrize(
    ("subject", "index", "shape", "words"),
    [
        ("subj02", [4, 9, 11], (2, 3, 2), "3 of subj02 in a volume of 2 x 3 x 2, with 3"),
        ("subj01", [9, 4, 11], (2, 3, 2), "3 of subj01 in a volume of 2 x 3 x 2, with 3"),
        ("subj01", [4, 11], (2, 3, 2), "2 of subj01 in a volume of 2 x 3 x 2, with 2"),
        ("subj01", [4, 9, 10], (2, 3, 2), "3 of subj01 in a volume of 2 x 3 x 2, with 2"),
        ("subj01", [4, 9, 11], (3, 2, 2), "3 of subj01 in a volume of 3 x 2 x 2, with 3"),
    ],
    ids=["subject", "order", "dropped", "others", "volume"],
)
def test_an_encoder_of_other_voxels_is_refused(subject, index, shape, words):
    encoder = StoredEncoder(None, "subj01", INDEX, (2, 3, 2), "train")
    with pytest.raises(DataError) as error:
        match_voxels(encoder, select(index, shape), subject=subject)
    assert str(error.value) == (
        "The encoder answers for 3 of subj01 in a volume of 2 x 3 x 2, but the voxels measured are "
        f"{words} in common, or in another order; delete encoders/{subject}.safetensors and run "
        "the workflow again."
    )


# --- the script ---


@pytest.fixture(scope="module")
def voxels(tiny_bucket, tmp_path_factory):
    path = tmp_path_factory.mktemp("voxels") / "subj01.h5"
    prepare_voxels(
        paths_to_betas=bucket_files.betas_paths(tiny_bucket, "subj01"),
        paths_to_regions=bucket_files.region_paths(tiny_bucket, "subj01"),
        path_to_design=tiny_bucket / files.DESIGN,
        path_to_responses=tiny_bucket / files.responses("subj01"),
        path_to_voxels=path,
        subject="subj01",
        sessions=(1, 2, 3),
        missing_sessions=(),
        normalisation="session_training",
        invalid_voxels="missing",
    )
    return path


def fit(folder, bucket, voxels, settings, *, validation_images=4, seed=0, **changes):
    plan = settings.training.model_copy(update={"epochs": 1, "held_out_images": 5} | changes)
    train_encoder(
        path_to_voxels=voxels,
        path_to_stimuli=bucket / files.STIMULI,
        path_to_released=None,
        path_to_encoder=folder / "subj01.safetensors",
        path_to_accuracy=folder / "subj01.h5",
        settings=settings.model_copy(update={"training": plan}),
        validation_images=validation_images,
        seed=seed,
    )
    return folder / "subj01.safetensors", folder / "subj01.h5"


def test_accuracy_is_that_of_the_stored_model(tiny_bucket, voxels, settings, tmp_path):
    encoder, accuracy = fit(tmp_path, tiny_bucket, voxels, settings)
    recorded = read_voxels(voxels)
    means = {split: recorded.averaged(split) for split in ("test", "training")}
    watching = np.array(storage.read_tensors(encoder)[1]["held_out_ids"])
    images = {"correlation": means["test"][0], "held_out_correlation": watching}
    assert not set(images["correlation"]) & set(recorded.training.id)
    for (name, ids), (known, measured) in zip(images.items(), means.values(), strict=True):
        network = load_encoder(encoder).network
        predicted = predict(network, read_images(tiny_bucket / files.STIMULI, ids))
        for voxel in (0, 77, 149):
            rows = measured[np.searchsorted(known, ids), voxel]
            expected = np.corrcoef(predicted[:, voxel], rows)[0, 1]
            stored = storage.read_array(accuracy, name)[voxel]
            np.testing.assert_allclose(stored, expected, atol=1e-4)
    for name in ("noise_ceiling", "roi", "index"):
        expected = getattr(recorded.selection, name)
        assert np.array_equal(storage.read_array(accuracy, name), expected)
    assert storage.read_attributes(accuracy)["subject"] == "subj01"
    match_voxels(load_encoder(encoder), recorded.selection, subject="subj01")


def test_the_trials_behind_each_accuracy_are_counted(tiny_bucket, voxels, settings, tmp_path):
    encoder, accuracy = fit(tmp_path, tiny_bucket, voxels, settings)
    recorded = read_voxels(voxels)
    watching = storage.read_metadata(encoder)["held_out_ids"]
    shown = {"trials": np.unique(recorded.test.id), "held_out_trials": watching}
    trials = [*recorded.test.id.tolist(), *recorded.training.id.tolist()]
    for name, ids in shown.items():
        expected = [trials.count(image) for image in ids]
        assert storage.read_array(accuracy, name).tolist() == expected


def test_held_out_accuracy_is_that_of_the_best_epoch(tiny_bucket, voxels, settings, tmp_path):
    _, accuracy = fit(tmp_path, tiny_bucket, voxels, settings, epochs=3)
    curve = storage.read_array(accuracy, "curve/held_out_correlation")
    stored = storage.read_array(accuracy, "held_out_correlation")
    np.testing.assert_allclose(stored.mean(), curve.max(), atol=1e-6)
    assert len(set(curve.tolist())) == 3


def read_parts(encoder):
    """The images on which training stopped, and those that it never saw."""
    metadata = storage.read_metadata(encoder)
    return set(metadata["held_out_ids"]), set(metadata["unseen_ids"])


def test_held_out_images_are_training_images_by_count_and_seed(
    tiny_bucket, voxels, settings, tmp_path
):
    parts = []
    for number, (count, seed) in enumerate([(5, 0), (6, 0), (5, 1)]):
        folder = tmp_path / str(number)
        encoder, _ = fit(folder, tiny_bucket, voxels, settings, seed=seed, held_out_images=count)
        parts.append(read_parts(encoder))
    assert [tuple(map(len, part)) for part in parts] == [(5, 4), (6, 4), (5, 4)]
    assert parts[0][0] != parts[2][0] and parts[0][1] != parts[2][1]
    assert parts[0][1] == parts[1][1]
    for watching, unseen in parts:
        assert not watching & unseen
        assert watching | unseen <= set(read_voxels(voxels).training.id.tolist())


def test_the_decoders_validation_images_change_nothing(
    tiny_bucket, voxels, settings, tmp_path, monkeypatch
):
    """They enter neither the fit, nor its stopping, nor the held-out accuracy."""
    import train_encoder as script

    first, accuracy = fit(tmp_path / "a", tiny_bucket, voxels, settings)
    _, unseen = read_parts(first)
    read = script.read_small_images

    def blacken(path, ids, *, size):
        images = read(path, ids, size=size)
        images[np.isin(ids, list(unseen))] = 0
        return images

    monkeypatch.setattr(script, "read_small_images", blacken)
    again, same = fit(tmp_path / "b", tiny_bucket, voxels, settings)
    states = [storage.read_tensors(path)[0] for path in (first, again)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    for name in ("correlation", "held_out_correlation"):
        assert np.array_equal(storage.read_array(accuracy, name), storage.read_array(same, name))


def test_they_are_those_that_decoders_hold_out(tiny_bucket, voxels, settings, tmp_path):
    encoder, _ = fit(tmp_path, tiny_bucket, voxels, settings, validation_images=7, seed=3)
    trained_on = read_voxels(voxels).training.id
    expected = validation_ids(trained_on, count=7, seed=3)
    assert read_parts(encoder)[1] == set(expected.tolist())
