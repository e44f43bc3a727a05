import numpy as np
import pytest
import torch
from planted_world import small_recipe

from neuraldiffuser.config.decoder import Network
from neuraldiffuser.decoders.data import read_trials
from neuraldiffuser.decoders.fitting import (
    SCALINGS,
    continue_from,
    fit,
    make_losses,
    new_decoder,
)
from neuraldiffuser.decoders.store import read_decoder, write_decoder
from neuraldiffuser.errors import DataError


@pytest.fixture(scope="module")
def own(world):
    return read_trials([world / "voxels/subj01.h5"], world / "targets/clip_text.h5")


@pytest.fixture(scope="module")
def pretrained(world, tmp_path_factory):
    paths = [world / f"voxels/{subject}.h5" for subject in ("subj02", "subj03")]
    trials = read_trials(paths, world / "targets/clip_text.h5")
    path = tmp_path_factory.mktemp("pretrained") / "pretrained.safetensors"
    fit(
        new_decoder("clip_text", trials, small_recipe()),
        trials,
        name="pretraining",
        path_to_decoder=path,
        path_to_curve=path.with_suffix(".csv"),
    )
    return path


def test_standardisation_is_by_dimension(own):
    mean, scale = SCALINGS["per_dimension"](own.embedding)
    rows = own.embedding.double().numpy()
    np.testing.assert_allclose(mean, rows.mean(axis=0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(scale, rows.std(axis=0), rtol=1e-4)
    mean, scale = SCALINGS["none"](own.embedding)
    assert mean.abs().max() == 0 and (scale == 1).all()


def test_weights_come_from_the_recipes_seed(own):
    models = [new_decoder("clip_text", own, small_recipe(seed=seed)).model for seed in (1, 1, 2)]
    rows = [model.backbone.output.weight for model in models]
    assert torch.equal(rows[0], rows[1]) and not torch.equal(rows[0], rows[2])


def test_a_decoder_is_read_as_it_was_written(own, tmp_path):
    decoder = new_decoder("clip_text", own, small_recipe())
    write_decoder(tmp_path / "decoder.safetensors", decoder)
    read = read_decoder(tmp_path / "decoder.safetensors")
    assert (read.target, read.shape, read.recipe) == (decoder.target, (5, 8), decoder.recipe)
    assert read.voxel_counts == {"subj01": 30} and not read.model.training
    for name, value in decoder.model.state_dict().items():
        assert torch.equal(read.model.state_dict()[name], value)


def test_fitting_leaves_weights_and_curve_and_no_checkpoint(pretrained):
    assert sorted(path.name for path in pretrained.parent.iterdir()) == [
        "pretrained.csv",
        "pretrained.safetensors",
    ]
    assert read_decoder(pretrained).voxel_counts == {"subj02": 40, "subj03": 35}


def test_finetuning_starts_from_the_core_with_a_fresh_voxel_encoder(pretrained, own):
    decoder = continue_from(pretrained, own, small_recipe())
    core = read_decoder(pretrained).model.state_dict()
    own_state = decoder.model.state_dict()
    assert {name for name in own_state if name.startswith("voxel_encoder.")} == {
        "voxel_encoder.encoders.subj01.weight",
        "voxel_encoder.encoders.subj01.bias",
    }
    for name, value in own_state.items():
        if not name.startswith("voxel_encoder."):
            assert torch.equal(value, core[name]), name


def test_another_architecture_is_refused(pretrained, own):
    recipe = small_recipe(network=Network(hidden_size=16, blocks=2))
    with pytest.raises(DataError) as error:
        continue_from(pretrained, own, recipe)
    assert str(error.value) == (
        f"{pretrained} holds another architecture than the configuration describes; delete it and "
        "run the workflow again."
    )


def test_a_teacher_without_files_is_refused(world):
    trials = read_trials([world / "voxels/subj01.h5"], world / "targets/vae_latent.h5")
    taught = small_recipe().low_level.model_copy(update={"teacher": "autoencoder"})
    decoder = new_decoder("vae_latent", trials, small_recipe(low_level=taught))
    with pytest.raises(DataError) as error:
        make_losses(decoder, trials)
    assert str(error.value) == (
        "decoder.low_level.teacher is autoencoder, which needs the stimuli and its weights; give "
        "both or choose none."
    )
