"""What LPIPS sees, against the library, torchmetrics and the formula; all weights are random."""

import neuraldiffuser.torchvision_schemas  # noqa: F401  before torchvision

import lpips
import pytest
import torch

from neuraldiffuser.config.models import NetworkSettings
from neuraldiffuser.errors import DataError
from neuraldiffuser.evaluation.distances import perceptual_distance
from neuraldiffuser.features import images, networks

SIZE = 64


@pytest.fixture(scope="module")
def path_to_weights(tmp_path_factory):
    from torchvision.models import alexnet

    with torch.random.fork_rng():
        torch.manual_seed(0)
        weights = alexnet(weights=None).state_dict()
    path = tmp_path_factory.mktemp("weights") / "alexnet.pth"
    torch.save(weights, path)
    return path


@pytest.fixture(scope="module")
def pair():
    """Four structured and four random images in [0, 1], and noisy copies of them."""
    generator = torch.manual_seed(1)
    rough = torch.rand(4, 3, 5, 5, generator=generator)
    smooth = images.resize(rough, SIZE, antialias=False)
    first = torch.cat([smooth, torch.rand(4, 3, SIZE, SIZE, generator=generator)])
    noise = torch.rand(8, 3, SIZE, SIZE, generator=generator)
    return first, 0.6 * first + 0.4 * noise


def embed(path, pictures):
    settings = NetworkSettings(
        model="alexnet",
        architecture="lpips",
        nodes={"weighted": "output"},
        size=SIZE,
        normalisation="none",
    )
    network = networks.load_network(settings, loader="lpips", path_to_weights=path)
    return network(pictures)["weighted"]


@pytest.fixture(scope="module")
def found(path_to_weights, pair):
    return perceptual_distance(*(embed(path_to_weights, one) for one in pair))


def fill(model, path):
    """Puts AlexNet's weights into a reference, whose names are slice1.0.weight and so on."""
    weights = torch.load(path, weights_only=True)
    own = {name: weights["features." + name.split(".", 1)[1]] for name in model.net.state_dict()}
    model.net.load_state_dict(own)
    return model.eval()


def test_the_distance_is_the_librarys(found, path_to_weights, pair):
    model = fill(lpips.LPIPS(net="alex", pnet_rand=True, verbose=False), path_to_weights)
    with torch.inference_mode():
        expected = model(*pair, normalize=True).flatten()
    torch.testing.assert_close(found.float(), expected, rtol=1e-5, atol=1e-7)


def test_the_distance_is_that_of_torchmetrics(found, path_to_weights, pair):
    from torchmetrics.functional.image.lpips import _NoTrainLpips

    model = fill(_NoTrainLpips(net="alex", pnet_rand=True), path_to_weights)
    with torch.inference_mode():
        expected = model(*(2 * one - 1 for one in pair)).flatten()
    torch.testing.assert_close(found.float(), expected, rtol=1e-5, atol=1e-7)


def test_the_distance_is_the_formula_written_out(found, path_to_weights, pair):
    """Zhang et al. (2018), Eq. 1, layer by layer of torchvision's AlexNet."""
    from torchvision.models import alexnet

    trunk = alexnet(weights=None).eval()
    trunk.load_state_dict(torch.load(path_to_weights, weights_only=True))
    place = f"{lpips.__path__[0]}/weights/v0.1/alex.pth"
    linear = torch.load(place, map_location="cpu", weights_only=True)
    total = torch.zeros(8, dtype=torch.float64)
    with torch.inference_mode():
        seen = [images.normalise(one, "imagenet") for one in pair]
        for number, module in enumerate(trunk.features[:12]):
            seen = [module(one) for one in seen]
            if number in (1, 4, 7, 9, 11):  # after each ReLU
                layer = (1, 4, 7, 9, 11).index(number)
                unit = [one.double() / one.double().norm(dim=1, keepdim=True) for one in seen]
                weights = linear[f"lin{layer}.model.1.weight"].double()
                assert (weights >= 0).all()
                total += (weights * (unit[0] - unit[1]) ** 2).sum(dim=1).mean(dim=(1, 2))
    torch.testing.assert_close(found, total, rtol=1e-4, atol=1e-7)


def test_images_of_one_colour_have_a_finite_distance(path_to_weights, pair):
    grey = torch.full_like(pair[0], 0.5)
    found = perceptual_distance(*(embed(path_to_weights, one) for one in (pair[0], grey)))
    assert torch.isfinite(found).all() and (found > 0).all()


def test_weights_of_another_network_are_refused(tmp_path, pair):
    torch.save({"fc.weight": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(DataError, match="The weights do not fit AlexNet"):
        embed(tmp_path / "other.pth", pair[0])
