"""Folders as real ones come: shards, half precision, names of 2022, lacking and foreign files."""

import json
import shutil

import full_size_models
import pytest
import tiny_models
import torch
from safetensors.torch import load_file, save_file

from neuraldiffuser.diffusion.models import load_unet
from neuraldiffuser.errors import DataError
from neuraldiffuser.features.clip_image import load_visual
from neuraldiffuser.features.clip_text import load_clip_text
from neuraldiffuser.features.vae_latent import load_autoencoder

WEIGHTS = "diffusion_pytorch_model.safetensors"
PARTS = {
    "vae": (load_autoencoder, WEIGHTS),
    "unet": (load_unet, WEIGHTS),
    "text_encoder": (lambda path: load_clip_text(path.parent).encoder, "model.safetensors"),
}


@pytest.fixture
def folder(tmp_path, stable_diffusion):
    return shutil.copytree(stable_diffusion, tmp_path / "model")


def rewrite(path, change):
    """Changes the weights of a file."""
    save_file(change(load_file(path)), path, metadata={"format": "pt"})


def load(folder, part):
    return PARTS[part][0](folder / part)


def same_weights(first, second):
    first, second = first.state_dict(), second.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


@pytest.mark.parametrize("part", PARTS)
def test_shards_give_the_same_network(folder, stable_diffusion, part):
    path = folder / part / PARTS[part][1]
    weights = sorted(load_file(path).items())
    half = len(weights) // 2
    shards = {
        f"{path.stem}-00001-of-00002.safetensors": dict(weights[:half]),
        f"{path.stem}-00002-of-00002.safetensors": dict(weights[half:]),
    }
    for name, held in shards.items():
        save_file(held, path.with_name(name), metadata={"format": "pt"})
    index = {"weight_map": {weight: name for name, held in shards.items() for weight in held}}
    size = sum(tensor.nbytes for _name, tensor in weights)
    path.with_name(f"{path.name}.index.json").write_text(
        json.dumps({"metadata": {"total_size": size}} | index)
    )
    path.unlink()
    assert same_weights(load(folder, part), load(stable_diffusion, part))
    lacking = path.with_name(list(shards)[1])
    lacking.unlink()
    with pytest.raises(DataError, match=f"{lacking.name}.*fetch or train the model again"):
        load(folder, part)


@pytest.mark.parametrize("part", PARTS)
def test_half_precision_on_disk_is_computed_in_the_precision_asked_for(folder, part):
    rewrite(
        folder / part / PARTS[part][1],
        lambda weights: {name: tensor.half() for name, tensor in weights.items()},
    )
    assert {tensor.dtype for tensor in load(folder, part).parameters()} == {torch.float32}


def test_attention_of_an_autoencoder_has_kept_its_names_of_2022(folder, stable_diffusion):
    def rename(weights):
        renamed = {full_size_models.legacy_name(name): tensor for name, tensor in weights.items()}
        assert "encoder.mid_block.attentions.0.proj_attn.weight" in renamed
        return renamed

    rewrite(folder / "vae" / WEIGHTS, rename)
    assert same_weights(load(folder, "vae"), load(stable_diffusion, "vae"))


@pytest.mark.parametrize("prefix", ["", "text_model."])
def test_the_text_encoders_names_of_2022_are_known(folder, stable_diffusion, prefix):
    def rename(weights):
        plain = {name.removeprefix("text_model."): tensor for name, tensor in weights.items()}
        positions = {"embeddings.position_ids": torch.arange(tiny_models.TEXT_SHAPE[0])[None]}
        return {prefix + name: tensor for name, tensor in (plain | positions).items()}

    rewrite(folder / "text_encoder" / "model.safetensors", rename)
    assert same_weights(load(folder, "text_encoder"), load(stable_diffusion, "text_encoder"))


@pytest.mark.parametrize("part", PARTS)
def test_a_lacking_weight_is_named_instead_of_drawn_at_random(folder, part):
    path = folder / part / PARTS[part][1]
    lacking = sorted(load_file(path))[0]
    rewrite(path, lambda weights: {n: t for n, t in weights.items() if n != lacking})
    with pytest.raises(DataError) as error:
        load(folder, part)
    assert str(error.value) == (
        f"The weights in {folder / part} lack {lacking}, so they do not belong to its config.json;"
        " fetch or train the model again."
    )


@pytest.mark.parametrize("part", PARTS)
def test_a_weight_that_the_configuration_has_no_place_for_is_named(folder, part):
    rewrite(folder / part / PARTS[part][1], lambda held: held | {"other.weight": torch.zeros(3)})
    with pytest.raises(DataError, match="hold an unknown other.weight, so they do not belong"):
        load(folder, part)


def test_layers_beyond_the_configurations_are_refused(folder):
    path = folder / "text_encoder" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"num_hidden_layers": 1}))
    with pytest.raises(DataError, match="hold an unknown .*layers.1.*do not belong to its config"):
        load(folder, "text_encoder")


@pytest.mark.parametrize("part", PARTS)
def test_another_shape_is_refused(folder, part):
    path = folder / part / PARTS[part][1]
    name = sorted(load_file(path))[0]
    rewrite(path, lambda weights: weights | {name: torch.zeros(3)})
    with pytest.raises(DataError, match=f"{folder / part} holds no readable .*again.$"):
        load(folder, part)


@pytest.mark.parametrize("part", PARTS)
def test_a_truncated_file_is_refused(folder, part):
    path = folder / part / PARTS[part][1]
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(DataError, match=f"{folder / part} holds no readable .*again.$"):
        load(folder, part)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("suffix", ["fp16.safetensors", "bin"])
def test_a_folder_that_holds_only_another_variant_names_the_file_it_lacks(folder, part, suffix):
    path = folder / part / PARTS[part][1]
    path.rename(path.with_name(f"{path.stem}.{suffix}"))
    with pytest.raises(DataError, match=f"no file named {path.name}.*fetch or train the model"):
        load(folder, part)


@pytest.mark.parametrize("part", PARTS)
def test_a_lacking_configuration_is_named(folder, part):
    (folder / part / "config.json").unlink()
    with pytest.raises(DataError) as error:
        load(folder, part)
    assert str(error.value) == (
        f"{folder / part}/config.json is missing; fetch or train the model, or name a folder in"
        " the diffusers layout."
    )


@pytest.mark.parametrize("name", ["vocab.json", "merges.txt"])
def test_a_tokenizer_without_one_of_its_files_is_refused(folder, name):
    (folder / "tokenizer" / name).unlink()
    with pytest.raises(DataError, match="tokenizer holds no readable tokenizer .*merges.txt of"):
        load_clip_text(folder)


def test_a_tokenizer_without_settings_is_clips(folder, stable_diffusion):
    (folder / "tokenizer" / "tokenizer_config.json").unlink()
    captions = ["a red sky", "big"]
    first, second = (load_clip_text(path).embed(captions) for path in (folder, stable_diffusion))
    assert torch.equal(first, second)


# --- open_clip ---------------------------------------------------------------------------------


@pytest.fixture
def clip(tmp_path, clip_folder):
    return shutil.copytree(clip_folder, tmp_path / "clip")


def test_timms_own_file_beside_open_clips_is_left_alone(clip, clip_folder):
    """A copy of timm's whole repository also holds the tower under timm's names."""
    save_file({"blocks.0.norm1.weight": torch.zeros(3)}, clip / "model.safetensors")
    (clip / "open_clip_pytorch_model.bin").write_bytes(b"not read")
    assert same_weights(load_visual(clip), load_visual(clip_folder))


@pytest.mark.parametrize("change", ["lacking", "unknown", "truncated"])
def test_incomplete_foreign_and_truncated_towers_are_refused(clip, change):
    path = clip / "open_clip_model.safetensors"
    weights = load_file(path)
    if change == "truncated":
        path.write_bytes(path.read_bytes()[:-50])
    elif change == "unknown":
        save_file(weights | {"other.weight": torch.zeros(3)}, path)
    else:
        del weights["visual.class_embedding"]
        save_file(weights, path)
    with pytest.raises(DataError, match="is no readable open_clip model") as error:
        load_visual(clip)
    assert "\n" not in str(error.value)
