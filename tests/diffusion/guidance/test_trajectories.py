"""Every step guided by colours, edges and a sum equals the unbatched reference's, in float64."""

import math
from dataclasses import dataclass
from types import SimpleNamespace

import plain_sampler
import pytest
import tiny_models
import torch
from tiny_engine import CLIP_IMAGE, make_engine, make_settings
from torchvision.transforms.v2 import functional as transforms

from neuraldiffuser.diffusion.guidance import GUIDANCE, GuidanceSource, SummedGuidance
from neuraldiffuser.diffusion.reconstruct import BoundLoss, decode_in_parts
from neuraldiffuser.diffusion.sampler import Denoising, Guide, sample

GRID, SIZE, BLUR = 4, 16, 1.0
ETA, GUIDED = 0.7, range(2)  # of three steps
SUMS = {
    "color": {"color": 0.5},
    "edges": {"edges": 20.0},
    "sum": {"clip_layers": 0.02, "color": 0.2, "edges": 10.0},
}
TOLERANCE = 1e-10
SETTINGS = make_settings(
    steps=4,
    guidance={
        "clip_layers": {"loss": "sum_squares", "layer_weights": (1.0, 1.0, 1.0)},
        "color": {"grid": GRID},
        "edges": {"size": SIZE, "blur": BLUR},
    },
)
CLIP_LAYERS = CLIP_IMAGE.model_copy(update={"layers": (2, 4, 6)})


@pytest.fixture(scope="module")
def networks(path_to_stable_diffusion, path_to_clip):
    """The reference's own copy of the same weights, attending as unevenly."""
    loaded = plain_sampler.load_networks(path_to_stable_diffusion, path_to_clip)
    loaded.middle.to_q.weight.mul_(20)
    return loaded


@pytest.fixture(scope="module")
def oblong():
    """Latents, noise and texts of two samples that are higher than wide, and what guides them."""
    generator = torch.Generator().manual_seed(3)

    def draw(*shape):
        return torch.randn(2, *shape, generator=generator, dtype=torch.float64)

    start = [draw(4, 12, 8), draw(4, 12, 8), draw(*tiny_models.TEXT_SHAPE)]
    layers = {f"clip_image_{layer:02d}": draw(*tiny_models.CLIP_SHAPE) for layer in (2, 4, 6)}
    return SimpleNamespace(start=start, targets={"vae_latent": draw(4, 12, 8), **layers})


# --- the same losses, of one image, written down from their descriptions ----------------------


def plain_colors(image):
    """Mean colour of every cell of an image (1, 3, h, w)."""
    height, width = (size // GRID for size in image.shape[2:])
    cells = [
        image[0, :, height * y : height * (y + 1), width * x : width * (x + 1)].mean(dim=(1, 2))
        for y in range(GRID)
        for x in range(GRID)
    ]
    return torch.stack(cells)


def plain_edges(image):
    """Blurred edge strengths of an image (1, 3, h, w), pixel by pixel."""
    small = transforms.resize(image, [SIZE, SIZE], antialias=True)[0]
    inner = range(1, SIZE - 1)
    strengths = {}
    for y in inner:
        for x in inner:
            around = small[:, y - 1 : y + 2, x - 1 : x + 2]
            across = (around[:, :, 2] - around[:, :, 0]) @ image.new_tensor([1, 2, 1]) / 8
            down = (around[:, 2] - around[:, 0]) @ image.new_tensor([1, 2, 1]) / 8
            strengths[y, x] = (across.square().sum() + down.square().sum() + 1e-6).sqrt()
    blurred = []
    for y in inner:
        for x in inner:
            weights = {
                place: math.exp(-((place[0] - y) ** 2 + (place[1] - x) ** 2) / (2 * BLUR**2))
                for place in strengths
                if max(abs(place[0] - y), abs(place[1] - x)) <= 3 * BLUR
            }
            total = sum(weight * strengths[place] for place, weight in weights.items())
            blurred.append(total / sum(weights.values()))
    return torch.stack(blurred)


@dataclass(frozen=True)
class PlainGuidance:
    """A sum of losses of one sample; see plain_sampler.Guidance."""

    scales: dict
    targets: dict
    image: torch.Tensor  # behind the latent
    kappa: float = 1.0
    eta: float = ETA

    def loss(self, image, networks, settings):
        """The scaled losses of an image (1, 3, h, w), summed."""
        return sum(
            scale * getattr(self, name)(image, networks, settings)
            for name, scale in self.scales.items()
        )

    def color(self, image, _networks, _settings):
        return ((plain_colors(image) - plain_colors(self.image)) ** 2).sum()

    def edges(self, image, _networks, _settings):
        maps = torch.stack([plain_edges(image), plain_edges(self.image)])
        return 1 - torch.corrcoef(maps)[0, 1]

    def clip_layers(self, image, networks, settings):
        layers = {int(name[-2:]): rows for name, rows in self.targets.items() if "clip" in name}
        clip = plain_sampler.Guidance(layers, CLIP_LAYERS, self.kappa, self.eta)
        return clip.loss(image, networks, settings)


@pytest.fixture(scope="module")
def reference(oblong, networks):
    """The reference's latents after every step, one sample after the other."""

    def walk(scales):
        samples = []
        for k in range(2):
            targets = {name: rows[k] for name, rows in oblong.targets.items()}
            scaled = targets["vae_latent"][None] / networks.autoencoder.config.scaling_factor
            decoded = networks.autoencoder.decode(scaled).sample / 2 + 0.5
            samples.append(
                plain_sampler.reconstruct(
                    *(part[k : k + 1] for part in oblong.start),
                    networks=networks,
                    settings=SETTINGS,
                    guidance=PlainGuidance(scales, targets, decoded.clamp(0, 1)),
                )
            )
        return torch.stack([torch.cat(step) for step in zip(*samples, strict=True)])

    return walk


@pytest.fixture(scope="module")
def trajectory(oblong, model, scheduler, path_to_clip):
    """The library's latents after every step, (steps, n, c, h, w)."""
    source = GuidanceSource(
        settings=SETTINGS.guidance,
        clip_image=CLIP_LAYERS,
        paths={"clip_image": path_to_clip},
        decode=lambda latents: decode_in_parts(model, latents),
    )
    latents, noise, texts = oblong.start

    def walk(scales):
        functions = {name: GUIDANCE[name](source) for name in scales}
        if "clip_layers" in functions:
            functions["clip_layers"].network.double()
        function = SummedGuidance({name: (functions[name], scales[name]) for name in scales})
        steps = []
        schedule = make_engine(model, scheduler, SETTINGS).schedule
        sample(
            latents,
            noise,
            Denoising(model, texts, SETTINGS),
            schedule=schedule,
            guide=Guide(BoundLoss(function, function.prepare(oblong.targets)), GUIDED),
            on_step=lambda _index, z: steps.append(z.clone()),
        )
        return torch.stack(steps)

    return walk


@pytest.mark.parametrize("name", SUMS)
def test_every_step_equals_the_reference(trajectory, reference, name):
    ours, theirs = trajectory(SUMS[name]), reference(SUMS[name])
    assert ours.shape == theirs.shape == (3, 2, 4, 12, 8)
    assert (ours - theirs).abs().max() < TOLERANCE


def test_each_function_changes_the_result(trajectory):
    unguided = trajectory({"color": 0.0})[-1]
    alone = [trajectory({name: scale})[-1] for name, scale in SUMS["sum"].items()]
    outcomes = [unguided, *alone, trajectory(SUMS["sum"])[-1]]
    for k, one in enumerate(outcomes):
        for other in outcomes[:k]:
            assert (one - other).abs().max() > 1e-4
