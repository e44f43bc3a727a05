"""Steps guided by colours, edges, voxels and a sum are the unbatched reference's, in float64."""

import math
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import plain_sampler
import planted_responses
import pytest
import tiny_models
import torch
from tiny_engine import CLIP_IMAGE, make_engine, make_settings
from torchvision.transforms.v2 import functional as transforms

from neuraldiffuser import storage
from neuraldiffuser.diffusion.guidance import GUIDANCE, GuidanceSource, SummedGuidance
from neuraldiffuser.diffusion.reconstruct import BoundLoss, decode_in_parts
from neuraldiffuser.diffusion.sampler import Denoising, Guide, sample
from neuraldiffuser.encoding.gnet import Gnet
from neuraldiffuser.encoding.prediction import load_encoder, save_encoder

GRID, SIZE, BLUR = 4, 16, 1.0
ETA, GUIDED = 0.7, range(2)  # of three steps
SUMS = {
    "color": {"color": 0.5},
    "edges": {"edges": 20.0},
    "encoder": {"encoder": 5e3},
    "sum": {"clip_layers": 0.02, "color": 0.2, "edges": 10.0, "encoder": 2e3},
}
TOLERANCE = 1e-10
SETTINGS = make_settings(
    steps=4,
    guidance={
        "clip_layers": {"loss": "sum_squares", "layer_weights": (1.0, 1.0, 1.0)},
        "color": {"grid": GRID},
        "edges": {"size": SIZE, "blur": BLUR},
        "encoder": {"loss": "mean_squares", "regions": ("V1",), "weighting": "accuracy"},
    },
)
LABELS = (1, 2, 0, 3, 1)  # of five voxels, of which the first, second and last lie in V1
ACCURACY = (0.4, 0.1, 0.9, 0.8, -0.2)
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
    targets = {"vae_latent": draw(4, 12, 8), "voxels": draw(len(LABELS)), **layers}
    return SimpleNamespace(start=start, targets=targets)


@pytest.fixture(scope="module")
def paths_to_encoder(tmp_path_factory):
    """A random encoder of five voxels with receptive fields of their own, and its accuracy."""
    folder, network = tmp_path_factory.mktemp("encoders"), planted_responses.NETWORK
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder = Gnet(network, voxels=len(LABELS))
        for field in encoder.readout.fields:
            torch.nn.init.normal_(field)
    encoder.input_mean.fill_(0.5)
    paths = {"encoder": folder / "subj01.safetensors", "accuracy": folder / "subj01.h5"}
    stored = planted_responses.as_stored(encoder)
    save_encoder(paths["encoder"], stored, settings=network, metadata={})
    arrays = {"roi": np.array(LABELS, np.uint8), "held_out_correlation": np.array(ACCURACY)}
    storage.write_arrays(paths["accuracy"], arrays)
    return paths


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
    brain: torch.nn.Module
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

    def encoder(self, image, _networks, _settings):
        size = planted_responses.NETWORK.image_size
        seen = transforms.resize(image, [size, size], antialias=True) - 0.5
        predicted = self.brain.readout(self.brain.trunk(self.brain.prefilter(seen)))[0]
        measured = self.targets["voxels"]
        errors = [
            (ACCURACY[voxel] ** 2, (predicted[voxel] - measured[voxel]) ** 2) for voxel in (0, 1)
        ]  # the last voxel's accuracy is negative, so it weighs nothing
        return sum(weight * error for weight, error in errors) / sum(w for w, _ in errors)

    def clip_layers(self, image, networks, settings):
        layers = {int(name[-2:]): rows for name, rows in self.targets.items() if "clip" in name}
        clip = plain_sampler.Guidance(layers, CLIP_LAYERS, self.kappa, self.eta)
        return clip.loss(image, networks, settings)


@pytest.fixture(scope="module")
def reference(oblong, networks, paths_to_encoder):
    """The reference's latents after every step, one sample after the other."""
    brain = load_encoder(paths_to_encoder["encoder"]).network.double()

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
                    guidance=PlainGuidance(scales, targets, decoded.clamp(0, 1), brain),
                )
            )
        return torch.stack([torch.cat(step) for step in zip(*samples, strict=True)])

    return walk


@pytest.fixture(scope="module")
def trajectory(oblong, model, scheduler, path_to_clip, paths_to_encoder):
    """The library's latents after every step, (steps, n, c, h, w)."""
    source = GuidanceSource(
        settings=SETTINGS.guidance,
        clip_image=CLIP_LAYERS,
        paths={"clip_image": path_to_clip, **paths_to_encoder},
        decode=lambda latents: decode_in_parts(model, latents),
    )
    latents, noise, texts = oblong.start

    def walk(scales):
        functions = {name: GUIDANCE[name](source) for name in scales}
        if "clip_layers" in functions:
            functions["clip_layers"].network.double()
        if "encoder" in functions:
            functions["encoder"].encoder.double()
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
