import numpy as np
import pytest
import tiny_models
import torch

from neuraldiffuser import storage
from neuraldiffuser.decoders.teachers import TEACHERS, TeacherFiles, map_vectors
from neuraldiffuser.errors import ConfigError


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teacher")
    images = np.random.default_rng(0).integers(0, 256, (9, 32, 32, 3), dtype=np.uint8)
    storage.write_arrays(folder / "stimuli.hdf5", {"imgBrick": images})
    autoencoder = tiny_models.write_stable_diffusion(folder / "sd") / "vae"
    return TEACHERS["autoencoder"](
        TeacherFiles(autoencoder=autoencoder, stimuli=folder / "stimuli.hdf5"),
        ids=np.array([2, 3, 5, 8]),
        latent_size=16,
        grid=(2, 2),
        device="cpu",
    )


def test_positions_are_unit_vectors_joined_by_id(teacher):
    clean, augmented = teacher(np.array([8, 2, 8]), torch.Generator().manual_seed(0))
    assert clean.shape == augmented.shape and clean.shape[0] == 3 * 4
    torch.testing.assert_close(clean.norm(dim=1), torch.ones(12))
    torch.testing.assert_close(clean[:4], clean[8:])
    assert not torch.allclose(clean[:4], clean[4:8])
    assert not torch.allclose(clean, augmented)


def test_views_follow_the_generator(teacher):
    ids = np.array([3, 5])
    views = [teacher(ids, torch.Generator().manual_seed(seed))[1] for seed in (1, 1, 2)]
    assert torch.equal(views[0], views[1]) and not torch.equal(views[0], views[2])


def test_map_vectors_have_one_row_per_position():
    maps = torch.randn(2, 3, 4, 5)
    rows = map_vectors(maps)
    expected = maps[1, :, 2, 4] / maps[1, :, 2, 4].norm()
    torch.testing.assert_close(rows[20 + 2 * 5 + 4], expected)


def test_convnext_is_refused():
    with pytest.raises(ConfigError) as error:
        TEACHERS["convnext"](None)
    assert str(error.value) == (
        "decoder.low_level.teacher is convnext, whose weights (VICRegL ConvNeXt-XL) this version "
        "cannot load; choose autoencoder or none."
    )
