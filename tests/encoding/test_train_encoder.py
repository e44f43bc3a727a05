import numpy as np
import pytest
import tiny_bucket as bucket_files
import torch
from prepare_voxels import prepare_voxels
from train_encoder import train_encoder

from neuraldiffuser import storage
from neuraldiffuser.encoding.prediction import load_encoder, predict, save_encoder
from neuraldiffuser.errors import DataError
from neuraldiffuser.nsd import files
from neuraldiffuser.nsd.stimuli import read_images
from neuraldiffuser.nsd.voxels import read_voxels


def test_prediction_survives_storage(settings, tmp_path):
    from neuraldiffuser.encoding.gnet import Gnet

    encoder = Gnet(settings.network, voxels=3).eval()
    save_encoder(tmp_path / "e.safetensors", encoder, settings=settings.network, metadata={})
    images = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)
    stored = load_encoder(tmp_path / "e.safetensors")
    assert np.array_equal(predict(stored, images), predict(encoder, images))
    assert not any(parameter.requires_grad for parameter in stored.parameters())


def test_other_files_are_refused(tmp_path):
    storage.write_tensors(tmp_path / "other.safetensors", {"a": torch.zeros(1)})
    with pytest.raises(DataError, match="holds no encoding model; run train_encoder again"):
        load_encoder(tmp_path / "other.safetensors")


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


def fit(folder, bucket, voxels, settings, *, seed=0, **changes):
    plan = settings.training.model_copy(update={"epochs": 1, "held_out_images": 5} | changes)
    train_encoder(
        path_to_voxels=voxels,
        path_to_stimuli=bucket / files.STIMULI,
        path_to_encoder=folder / "subj01.safetensors",
        path_to_accuracy=folder / "subj01.h5",
        settings=settings.model_copy(update={"training": plan}),
        seed=seed,
    )
    return folder / "subj01.safetensors", folder / "subj01.h5"


def test_accuracy_is_that_of_the_stored_model_on_test_images(
    tiny_bucket, voxels, settings, tmp_path
):
    encoder, accuracy = fit(tmp_path, tiny_bucket, voxels, settings)
    recorded = read_voxels(voxels)
    ids, measured = recorded.averaged("test")
    assert not set(ids) & set(recorded.training.id)
    predicted = predict(load_encoder(encoder), read_images(tiny_bucket / files.STIMULI, ids))
    for voxel in (0, 77, 149):
        expected = np.corrcoef(predicted[:, voxel], measured[:, voxel])[0, 1]
        stored = storage.read_array(accuracy, "correlation")[voxel]
        np.testing.assert_allclose(stored, expected, atol=1e-4)
    for name in ("noise_ceiling", "roi", "index"):
        expected = getattr(recorded.selection, name)
        assert np.array_equal(storage.read_array(accuracy, name), expected)
    assert storage.read_attributes(accuracy)["subject"] == "subj01"


def test_held_out_images_are_training_images_by_count_and_seed(
    tiny_bucket, voxels, settings, tmp_path
):
    chosen = []
    for number, (count, seed) in enumerate([(5, 0), (6, 0), (5, 1)]):
        folder = tmp_path / str(number)
        encoder, _ = fit(folder, tiny_bucket, voxels, settings, seed=seed, held_out_images=count)
        chosen.append(set(storage.read_tensors(encoder)[1]["held_out_ids"]))
    assert [len(ids) for ids in chosen] == [5, 6, 5]
    assert chosen[0] != chosen[2]
    assert chosen[0] <= set(read_voxels(voxels).training.id.tolist())
