import numpy as np
import pytest
import tiny_models
import torch


@pytest.fixture(scope="session")
def stable_diffusion(tmp_path_factory):
    return tiny_models.write_stable_diffusion(tmp_path_factory.mktemp("stable-diffusion"))


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory):
    return tiny_models.write_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture
def pictures():
    """Smooth uint8 pictures (5, 48, 48, 3), larger than the tiny models' 32 pixels."""
    coarse = np.random.default_rng(3).random((5, 3, 6, 6))
    smooth = torch.nn.functional.interpolate(
        torch.from_numpy(coarse), size=48, mode="bicubic", align_corners=False
    )
    return (smooth.clamp(0, 1) * 255).byte().permute(0, 2, 3, 1).numpy()
