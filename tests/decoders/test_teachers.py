"""Teachers show unit vectors of clean and augmented images, whoever shares a batch."""

import shutil
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import public_vicregl
import pytest
import tiny_models
import torch
from planted_world import small_recipe
from pretrain_decoder import pretrain_decoder

from neuraldiffuser import runtime, storage
from neuraldiffuser.config.decoder import LowLevel
from neuraldiffuser.decoders import teachers
from neuraldiffuser.decoders.augmentation import Draws, augment
from neuraldiffuser.decoders.parallel import Share, launch
from neuraldiffuser.decoders.teachers import (
    TEACHERS,
    Sizes,
    TeacherFiles,
    load_teacher,
    map_vectors,
)
from neuraldiffuser.errors import ConfigError
from neuraldiffuser.features.vae_latent import load_autoencoder

IDS = np.array([2, 3, 5, 8])
IMAGES = np.random.default_rng(0).integers(0, 256, (9, 48, 48, 3), dtype=np.uint8)
SIZES = Sizes(latent=16, maps=(2, 2))
WHOLE = Share()
CONVNEXT = {"depths": (1, 1, 2, 1), "widths": (8, 12, 16, 24), "projected": (20, 18, 10)}
CHANNELS = {"autoencoder": 16, "convnext": 10}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The files of each teacher."""
    folder = tmp_path_factory.mktemp("teachers")
    storage.write_arrays(folder / "stimuli.hdf5", {"imgBrick": IMAGES})
    autoencoder = tiny_models.write_stable_diffusion(folder / "sd") / "vae"
    public_vicregl.write(folder / "fullckpt.pth", **CONVNEXT)
    weights = {
        "autoencoder": autoencoder / "diffusion_pytorch_model.safetensors",
        "convnext": folder / "fullckpt.pth",
    }
    return {
        name: TeacherFiles(folder / "stimuli.hdf5", path, vectors=folder / f"{name}.vectors")
        for name, path in weights.items()
    }


def load(files, name, *, ids=IDS, precision="fp32", width=None):
    low_level = LowLevel(teacher=name, projector_width=width or CHANNELS[name])
    return load_teacher(
        files[name],
        low_level,
        ids=ids,
        sizes=SIZES,
        precision=precision,
        device="cpu",
    )


@pytest.fixture(scope="module", params=TEACHERS)
def teacher(request, files):
    return load(files, request.param)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def stimuli_at(size, ids):
    """Those pictures in [0, 1], enlarged."""
    unit = torch.from_numpy(IMAGES[ids]).permute(0, 3, 1, 2) / 255
    return torch.nn.functional.interpolate(
        unit, size=(size, size), mode="bilinear", antialias=True, align_corners=False
    )


def test_vectors_of_clean_images_are_the_convnexts(files):
    clean, _ = load(files, "convnext")(np.array([8, 2]), seeded(), WHOLE)
    weights = torch.load(files["convnext"].weights, weights_only=True)["model"]
    # 2 x 2 positions of 32 pixels a side
    images = stimuli_at(64, [8, 2])
    maps = public_vicregl.forward(weights, CONVNEXT["depths"], images)
    expected = torch.stack([maps[:, :, row, column] for row in (0, 1) for column in (0, 1)], dim=1)
    expected = expected / expected.square().sum(dim=2, keepdim=True).sqrt()
    torch.testing.assert_close(clean.double(), expected, atol=1e-3, rtol=0)  # kept in float16


def test_vectors_of_clean_images_are_the_autoencoders(files):
    clean, _ = load(files, "autoencoder")(np.array([8, 2]), seeded(), WHOLE)
    encoder = load_autoencoder(files["autoencoder"].weights.parent).encoder
    kept = []
    encoder.mid_block.register_forward_hook(lambda *call: kept.append(call[2]))
    encoder(stimuli_at(64, [8, 2]) * 2 - 1)  # latents of 16 x 16
    maps = kept[0].unflatten(3, (2, 8)).unflatten(2, (2, 8)).mean(dim=(3, 5))
    expected = maps.flatten(2).transpose(1, 2)
    expected = expected / expected.norm(dim=2, keepdim=True)
    torch.testing.assert_close(clean, expected, atol=1e-3, rtol=0)


def test_vectors_of_views_are_those_of_augmented_images(teacher):
    ids = np.array([5, 3, 5])
    _, augmented = teacher(ids, seeded(4), WHOLE)
    views = augment(teacher.viewer.pictures(ids), Draws(3, seeded(4)))
    torch.testing.assert_close(augmented, map_vectors(teacher.viewer.network(views)))
    assert not torch.allclose(augmented[0], augmented[2], atol=1e-3)


def test_rows_are_unit_vectors_joined_by_id(teacher):
    clean, augmented = teacher(np.array([8, 2, 8]), seeded(), WHOLE)
    assert clean.shape == augmented.shape == (3, 4, teacher.clean.shape[2])
    assert clean.dtype == augmented.dtype == torch.float32
    for vectors in (clean, augmented):
        torch.testing.assert_close(vectors.norm(dim=2), torch.ones(3, 4))
    assert torch.equal(clean[0], clean[2])
    assert not torch.allclose(clean[0], clean[1], atol=1e-3)


def test_views_follow_the_generator(teacher):
    ids = np.array([3, 5])
    views = [teacher(ids, seeded(seed), WHOLE)[1] for seed in (1, 1, 2)]
    assert torch.equal(views[0], views[1]) and not torch.equal(views[0], views[2])


@pytest.mark.parametrize("count", [2, 3])
def test_shares_interleave_to_the_whole_batch(teacher, count):
    ids = np.array([8, 2, 3, 5, 5, 2])
    whole = teacher(ids, seeded(7), WHOLE)
    parts = [teacher(ids, seeded(7), Share(index, count)) for index in range(count)]
    for number, expected in enumerate(whole):
        interleaved = torch.stack([part[number] for part in parts], dim=1).flatten(0, 1)
        torch.testing.assert_close(interleaved, expected)


def test_every_share_draws_as_much(teacher):
    generators = [seeded(7), seeded(7)]
    teacher(IDS, generators[0], WHOLE)
    teacher(IDS, generators[1], Share(1, 4))
    assert torch.equal(generators[0].get_state(), generators[1].get_state())


@pytest.fixture
def seen(monkeypatch):
    """How many images the autoencoder was shown, call by call, three at most."""
    calls, forward = [], teachers.EncoderMaps.forward
    monkeypatch.setattr(
        teachers.EncoderMaps,
        "forward",
        lambda maps, images: calls.append(len(images)) or forward(maps, images),
    )
    monkeypatch.setattr(teachers, "IMAGES_AT_ONCE", 3)
    return calls


def elsewhere(files, folder):
    """The same teachers, which have not seen anything yet."""
    return {name: replace(own, vectors=folder / name) for name, own in files.items()}


def test_clean_images_are_seen_once(files, tmp_path, seen):
    unseen = elsewhere(files, tmp_path)
    teacher = load(unseen, "autoencoder")
    assert seen == [1, 3, 1]  # one to learn the shape, then all, three at once
    seen.clear()
    teacher(np.array([2, 8, 3, 5, 2]), seeded(), WHOLE)
    assert seen == [3, 2]  # the views
    seen.clear()
    again = load(unseen, "autoencoder")
    assert seen == [1] and torch.equal(again.clean, teacher.clean)


@pytest.mark.parametrize("change", ["ids", "precision", "sizes", "stimuli", "weights", "code"])
def test_clean_images_are_seen_again_where_they_would_look_different(
    monkeypatch, files, tmp_path, seen, change
):
    own = replace(files["autoencoder"], vectors=tmp_path / "vectors")
    load({"autoencoder": own}, "autoencoder")
    seen.clear()
    changed = {}
    if change == "ids":
        changed = {"ids": IDS - 1}
    elif change == "precision":
        changed = {"precision": "bf16"}
    elif change == "sizes":
        monkeypatch.setattr(sys.modules[__name__], "SIZES", Sizes(latent=8, maps=(2, 2)))
    elif change == "code":
        monkeypatch.setattr(runtime, "_execution", runtime.Execution(code="another"))
    else:
        copy = shutil.copytree(getattr(own, change).parent, tmp_path / "copy")
        changed_file = copy / getattr(own, change).name
        content = changed_file.read_bytes()
        changed_file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        own = replace(own, **{change: changed_file})
    load({"autoencoder": own}, "autoencoder", **changed)
    assert seen == [1, 3, 1]


def test_the_size_of_parts_changes_nothing(files, tmp_path, monkeypatch):
    whole = load(files, "convnext")(IDS, seeded(), WHOLE)
    monkeypatch.setattr(teachers, "IMAGES_AT_ONCE", 3)
    parts = load(elsewhere(files, tmp_path), "convnext")(IDS, seeded(), WHOLE)
    for part, expected in zip(parts, whole, strict=True):
        torch.testing.assert_close(part, expected, atol=1e-3, rtol=0)


def test_the_precision_is_the_teachers_own(files, tmp_path):
    exact, coarse = (
        load(elsewhere(files, tmp_path / name), "convnext", precision=name)
        for name in ("fp32", "bf16")
    )
    before = [each(IDS, seeded(), WHOLE) for each in (exact, coarse)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        within = [each(IDS, seeded(), WHOLE) for each in (exact, coarse)]
    for outside, inside in zip(before, within, strict=True):
        for one, other in zip(outside, inside, strict=True):
            assert torch.equal(one, other)
    for one, other in zip(*before, strict=True):
        assert 1e-4 < (one - other).abs().max() < 0.1


def test_map_vectors_have_one_row_per_position():
    maps = torch.randn(2, 3, 4, 5, generator=seeded())
    expected = maps[1, :, 2, 4] / maps[1, :, 2, 4].norm()
    torch.testing.assert_close(map_vectors(maps)[1, 2 * 5 + 4], expected)


@pytest.mark.parametrize("name", TEACHERS)
def test_a_projector_of_another_width_is_refused(files, name):
    with pytest.raises(ConfigError) as error:
        load(files, name, width=7)
    assert str(error.value) == (
        f"decoder.low_level.projector_width is 7, but the maps of the teacher {name} have "
        f"{CHANNELS[name]} channels; set it to {CHANNELS[name]}."
    )


def train_by(name, files, world, folder, *, processes, monkeypatch):
    """The losses of a decoder that a teacher trains in so many processes.

    Its voxels and targets are the planted world's; its pictures are not, so only losses fall.
    """
    folder.mkdir()
    pictures = np.random.default_rng(0).integers(0, 256, (400, 16, 16, 3), dtype=np.uint8)
    storage.write_arrays(folder / "stimuli.hdf5", {"imgBrick": pictures})
    taught = {"teacher": name, "projector_width": CHANNELS[name], "upsampler_channels": (8, 8, 8)}
    granted = runtime.Execution(label="test", log=str(folder / "log"), processes=processes)
    monkeypatch.setattr(runtime, "_execution", granted)
    launch(
        pretrain_decoder,
        paths_to_voxels=[world / "voxels/subj02.h5"],
        path_to_target=world / "targets/vae_latent.h5",
        paths_to_teacher=[folder / "stimuli.hdf5", files[name].weights],
        path_to_decoder=folder / "decoder.safetensors",
        path_to_curve=folder / "curve.csv",
        target="vae_latent",
        recipe=small_recipe(low_level=small_recipe().low_level.model_copy(update=taught)),
    )
    left = {path.name for path in folder.iterdir()} - {"log"}
    assert left == {"stimuli.hdf5", "decoder.safetensors", "curve.csv"}
    return pd.read_csv(folder / "curve.csv")


def test_a_decoder_is_trained_by_either_teacher(files, world, tmp_path, monkeypatch):
    first = {}
    for name in CHANNELS:
        curve = train_by(name, files, world, tmp_path / name, processes=1, monkeypatch=monkeypatch)
        contrastive = curve["contrastive"]
        assert contrastive.iloc[-5:].mean() < 0.9 * contrastive.iloc[:3].mean()
        first[name] = contrastive[0]
    assert first["autoencoder"] != first["convnext"]


def test_two_processes_are_taught_as_one(files, world, tmp_path, monkeypatch):
    one, two = (
        train_by(
            "autoencoder",
            files,
            world,
            tmp_path / str(processes),
            processes=processes,
            monkeypatch=monkeypatch,
        )
        for processes in (1, 2)
    )
    np.testing.assert_allclose(two[:10], one[:10], rtol=1e-5)
    np.testing.assert_allclose(two, one, rtol=1e-2)  # kinks of the losses enlarge roundings
