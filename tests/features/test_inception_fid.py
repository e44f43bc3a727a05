"""The network of FID and Inception Score against torch-fidelity's own, with random weights."""

import neuraldiffuser.torchvision_schemas  # noqa: F401  before torchvision

import numpy as np
import pytest
import scipy.linalg
import torch
from full_size_models import write_inception_fid
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from neuraldiffuser.config.evaluation import NSD_NETWORKS
from neuraldiffuser.errors import DataError
from neuraldiffuser.evaluation.features import embed
from neuraldiffuser.evaluation.quality import frechet_distance
from neuraldiffuser.features import networks


@pytest.fixture(scope="module")
def path_to_weights(tmp_path_factory):
    return write_inception_fid(tmp_path_factory.mktemp("weights") / "inception.pth")


@pytest.fixture(scope="module")
def pictures():
    """Two structured images and two of noise, of another size than the network's."""
    generator = np.random.default_rng(0)
    rough = generator.integers(0, 256, size=(2, 4, 4, 3), dtype=np.uint8)
    smooth = rough.repeat(10, axis=1).repeat(10, axis=2)
    return np.concatenate([smooth, generator.integers(0, 256, (2, 40, 40, 3), dtype=np.uint8)])


@pytest.fixture(scope="module")
def found(path_to_weights, pictures):
    settings = NSD_NETWORKS["inception_fid"]
    network = networks.load_network(
        settings, loader="inception_fid", path_to_weights=path_to_weights
    )
    return embed(network, pictures, first_resize=None)


def test_nodes_are_the_features_of_torch_fidelity(found, path_to_weights, pictures):
    alone = FeatureExtractorInceptionV3(
        "alone",
        ["2048", "logits_unbiased"],
        feature_extractor_weights_path=str(path_to_weights),
    )
    expected = alone(torch.from_numpy(pictures).permute(0, 3, 1, 2))
    for node, features in zip(("pooled", "logits"), expected, strict=True):
        torch.testing.assert_close(found[node], features, rtol=1e-4, atol=1e-5)
    assert found["pooled"].shape == (4, 2048)
    assert found["logits"].shape == (4, 1008)


def test_the_distance_of_its_features_is_the_definition(found):
    """On sixteen of the 2048 features, of two halves of noisy copies."""
    generator = torch.Generator().manual_seed(0)
    rows = found["pooled"][:, :16].double().repeat(20, 1)
    rows = rows + rows.std() * torch.randn(rows.shape, generator=generator, dtype=torch.float64)
    first, second = rows[:40].numpy(), rows[40:].numpy() + 0.1 * rows.std().item()
    means = first.mean(axis=0) - second.mean(axis=0)
    a, b = np.cov(first.T), np.cov(second.T)
    expected = means @ means + np.trace(a + b - 2 * scipy.linalg.sqrtm(a @ b).real)
    distance = frechet_distance(torch.from_numpy(first), torch.from_numpy(second))
    assert distance == pytest.approx(expected, rel=1e-6)


def test_weights_of_another_network_and_what_is_no_data_are_refused(tmp_path):
    torch.save({"fc.weight": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(DataError, match="The weights do not fit FeatureExtractorInceptionV3"):
        networks.build_inception_fid(tmp_path / "other.pth", None)
    torch.save({"fc.weight": print}, tmp_path / "code.pth")
    with pytest.raises(DataError, match="holds more than tensors"):
        networks.build_inception_fid(tmp_path / "code.pth", None)
