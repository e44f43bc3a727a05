"""A subject's encoder from the released weights answers voxel by voxel as its makers' does."""

import numpy as np
import public_gnet
import pytest
import torch
from convert_gnet import convert_gnet
from PIL import Image

from neuraldiffuser.config.encoding import EncodingSettings
from neuraldiffuser.encoding.prediction import predict
from neuraldiffuser.encoding.sources import NOTES, SOURCES, Material
from neuraldiffuser.errors import ConfigError, DataError
from neuraldiffuser.nsd.selection import Selection

SETTINGS = EncodingSettings(source="released")


@pytest.fixture(scope="module")
def checkpoint():
    return public_gnet.make_checkpoint()


@pytest.fixture(scope="module")
def converted(checkpoint, tmp_path_factory):
    folder = tmp_path_factory.mktemp("gnet")
    path = public_gnet.save(checkpoint, folder / "gnet.pt", legacy=False)
    convert_gnet(path_to_checkpoint=path, path_to_encoder=folder / "released.safetensors")
    return folder / "released.safetensors"


def refuse_to_read():
    raise AssertionError("nothing is fitted")


def take(converted, number, index, *, shape=None, settings=SETTINGS, subject=None):
    zeros = np.zeros(len(index))
    material = Material(
        subject=subject or f"subj{number:02d}",
        selection=Selection(shape or public_gnet.VOLUMES[number], np.array(index), zeros, zeros),
        read_training=refuse_to_read,
        held_out=None,
        path_to_checkpoint=None,
        path_to_released=converted,
    )
    return SOURCES["released"](material, settings=settings, seed=0, device="cpu")


def answer(checkpoint, number, images):
    """What the public readers answer to stimuli."""
    seen = [
        np.array(Image.fromarray(i).resize((227, 227), Image.Resampling.LANCZOS)) for i in images
    ]
    pixels = torch.from_numpy(np.stack(seen)).permute(0, 3, 1, 2) / 255
    return public_gnet.answer(checkpoint, number, pixels)


@pytest.mark.parametrize("number", public_gnet.VOXELS)
@pytest.mark.parametrize(
    "choose",
    [np.array, lambda index: index[::-1], lambda index: index[[2, 0]]],
    ids=["all", "permuted", "dropped"],
)
def test_each_voxel_answers_as_the_public_readers(checkpoint, converted, number, choose):
    images = np.random.default_rng(number).integers(0, 256, (2, 60, 60, 3), dtype=np.uint8)
    everywhere = checkpoint["voxel_index"][number]
    expected = dict(zip(everywhere.tolist(), answer(checkpoint, number, images).T, strict=True))
    index = choose(everywhere)
    network, curve = take(converted, number, index)
    found = predict(network, images)
    assert np.std([expected[place] for place in index], axis=0).min() > 0.1  # order shows
    np.testing.assert_allclose(found, np.stack([expected[p] for p in index], 1), rtol=0, atol=1e-5)
    assert curve.empty and not network.training


def test_a_voxel_that_it_lacks_is_named(checkpoint, converted):
    known = set(checkpoint["voxel_index"][1].tolist())
    strange = min(set(range(60)) - known)
    with pytest.raises(DataError) as error:
        take(converted, 1, sorted({*known, strange}))
    assert str(error.value) == (
        f"The released GNet lacks 1 of 6 voxels of subj01, the first at place {strange} of its "
        "volume; set encoding.source to train."
    )


def test_another_volume_is_refused(checkpoint, converted):
    with pytest.raises(DataError) as error:
        take(converted, 1, checkpoint["voxel_index"][1], shape=(5, 3, 4))
    assert str(error.value) == (
        "The released GNet's voxels of subj01 lie in a volume of (4, 3, 5), those measured in one "
        "of (5, 3, 4); set encoding.source to train."
    )


def test_a_subject_that_it_lacks_is_refused(checkpoint, converted):
    with pytest.raises(DataError, match="^The released GNet has no subj05; choose another subject"):
        take(converted, 1, checkpoint["voxel_index"][1], subject="subj05")


def test_another_network_is_refused(converted):
    network = SETTINGS.network.model_copy(update={"trunk_width": 32})
    with pytest.raises(ConfigError, match="leave encoding.network at its defaults"):
        take(converted, 1, [0], settings=SETTINGS.model_copy(update={"network": network}))


def test_every_source_says_what_its_accuracy_shows():
    assert NOTES.keys() == SOURCES.keys()
    assert all(set(notes) == {"test", "held_out"} for notes in NOTES.values())
