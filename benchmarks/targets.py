"""How many images per second become targets: latents, embedded captions, CLIP image layers.

    python benchmarks/targets.py [--full] [--threads N] [--json FILE]

Both sides go from a file of stimuli (or from captions) to a file of rows, on the same device, in
float32 and with as many threads. The peers' way is that of published extraction scripts: one image
or caption at a time, PIL to tensor, hooks on the modules, rows collected and written at the end.
The floor is the network's operations at the rate of a large matrix product on this device. Both
must give the same values. On a GPU ours is also measured in float16.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import islice, product
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow_scripts"))

import neuraldiffuser.torchvision_schemas  # noqa: F401  before everything that loads torchvision

import h5py
import numpy as np
import open_clip
import torch
from comparison import Row, format_table, write_rows
from device_rates import describe_device, measure_matrix_rate
from diffusers import AutoencoderKL
from PIL import Image
from safetensors.torch import save_file
from torch.utils.flop_counter import FlopCounterMode
from torchvision.transforms import functional as transforms
from transformers import CLIPTextConfig, CLIPTextModel

from neuraldiffuser import runtime, storage
from neuraldiffuser.config.root import Runtime
from neuraldiffuser.config.targets import ClipTextSettings, VaeLatentSettings
from neuraldiffuser.features import clip_text, targets, vae_latent
from neuraldiffuser.features.clip_image import ClipLayers, load_clip_image
from neuraldiffuser.features.images import MEANS_AND_DEVIATIONS
from neuraldiffuser.features.store import Target, write_resumably

MINIATURE = Path(__file__).resolve().parents[1] / "resources" / "mini_models"
LAYERS = (2, 4, 6, 8, 10, 12)
CAPTIONS_OF_AN_IMAGE = 5
NSD_IMAGES = 73_000
TOLERANCE = 1e-4
READING = {"node": "block_output", "normalisation": "clip", "antialias": True, "layers": LAYERS}


@dataclass(frozen=True)
class Size:
    """The models, how large stimuli are and become, and how many are extracted how often."""

    write_models: Callable[[Path], Path]
    stimulus: int
    image_size: int
    images: dict[str, int]  # by target, on a CPU
    images_on_gpu: int
    repeats: int


@dataclass(frozen=True)
class Scene:
    """Everything that both sides read and write."""

    folder: Path
    models: Path
    size: Size
    device: str
    threads: int
    precision: str = "float32"

    @property
    def dtype(self) -> torch.dtype:
        """Of the networks."""
        return getattr(torch, self.precision)

    @property
    def stimuli(self) -> Path:
        """The pictures, in NSD's layout."""
        return self.folder / "stimuli.hdf5"

    @cached_property
    def captions(self) -> dict[int, list[str]]:
        """Five captions of each image, no two alike."""
        words = (
            ("red", "blue", "green", "small", "large", "dark", "bright", "round"),
            ("cat", "dog", "bird", "house", "boat", "car", "tree", "ball"),
            ("near", "behind", "above", "under", "beside", "before", "on", "in"),
            ("grass", "sand", "water", "snow", "rock", "table", "road", "wall"),
            ("at dawn", "at noon", "at dusk", "at night"),
        )
        texts = (f"a {a} {b} {c} the {d} {e}" for a, b, c, d, e in product(*words))
        number = self.count_stimuli()
        return {image: list(islice(texts, CAPTIONS_OF_AN_IMAGE)) for image in range(number)}

    def count_stimuli(self) -> int:
        """The most images that any target takes."""
        on_cpu = max(self.size.images.values())
        return on_cpu if self.device == "cpu" else max(on_cpu, self.size.images_on_gpu)

    def ids(self, target: str) -> np.ndarray:
        """The images of one target."""
        on_cpu = self.device == "cpu"
        return np.arange(self.size.images[target] if on_cpu else self.size.images_on_gpu)


# --- models and stimuli --------------------------------------------------------------------------


def use_miniature(_folder: Path) -> Path:
    """The models that the repository ships."""
    return MINIATURE


def write_full_size(folder: Path) -> Path:
    """Stable Diffusion v1.4's autoencoder and text encoder and ViT-B/32, with random weights."""
    torch.manual_seed(0)
    diffusion = folder / "stable-diffusion"
    AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
        sample_size=512,
    ).save_pretrained(diffusion / "vae")
    width = {"hidden_size": 768, "intermediate_size": 3072, "projection_dim": 768}
    depth = {"num_hidden_layers": 12, "num_attention_heads": 12}
    CLIPTextModel(CLIPTextConfig(**width, **depth)).save_pretrained(diffusion / "text_encoder")
    # Its words are not Stable Diffusion's, but it pads to the same 77 tokens.
    (diffusion / "tokenizer").symlink_to(MINIATURE / "stable-diffusion" / "tokenizer")
    clip = open_clip.get_model_config("ViT-B-32-quickgelu")
    (folder / "clip").mkdir()
    configuration = {"model_cfg": clip, "preprocess_cfg": {}}
    (folder / "clip" / "open_clip_config.json").write_text(json.dumps(configuration))
    weights = open_clip.CLIP(**clip).state_dict()
    save_file(weights, folder / "clip" / "open_clip_model.safetensors")
    return folder


def write_stimuli(scene: Scene) -> None:
    """Pictures with large and small structure."""
    rng = np.random.default_rng(0)
    side = scene.size.stimulus
    with h5py.File(scene.stimuli, "w") as file:
        shape = (scene.count_stimuli(), side, side, 3)
        pictures = file.create_dataset("imgBrick", shape, np.uint8)
        for row in range(shape[0]):
            coarse = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            large = Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)
            grain = rng.integers(-16, 17, (side, side, 3))
            pictures[row] = np.clip(np.asarray(large) + grain, 0, 255)


# --- ours ----------------------------------------------------------------------------------------


def extract_latents(scene: Scene) -> targets.Extraction:
    """The mode at the size of the autoencoder."""
    autoencoder = vae_latent.load_encoder(
        scene.models / "stable-diffusion" / "vae", device=scene.device, dtype=scene.dtype
    )
    settings = VaeLatentSettings(
        autoencoder="stable_diffusion",
        posterior="mode",
        image_size=scene.size.image_size,
        source_size=None,
    )
    return targets.extract_vae_latents(
        autoencoder, scene.stimuli, settings=settings, seed=0, dtype="float32"
    )


def extract_texts(scene: Scene) -> targets.Extraction:
    """The mean over captions."""
    text = clip_text.load_clip_text(
        scene.models / "stable-diffusion", device=scene.device, dtype=scene.dtype
    )
    settings = ClipTextSettings(captions="mean")
    return targets.extract_clip_texts(text, scene.captions, settings=settings, dtype="float32")


def load_layers(scene: Scene) -> ClipLayers:
    """The tower that both sides read."""
    return load_clip_image(scene.models / "clip", device=scene.device, dtype=scene.dtype, **READING)


def extract_layers(scene: Scene) -> targets.Extraction:
    """The outputs of six blocks."""
    return targets.extract_clip_images(load_layers(scene), scene.stimuli, dtype="float32")


def extract_to_files(extraction: targets.Extraction, ids: np.ndarray, folder: Path) -> None:
    """One file per target, as the rules write them."""
    (one,) = extraction([ids[:1]])
    files = {
        name: Target(path=folder / f"{name}.h5", shape=row.shape[1:], attributes={})
        for name, row in one.items()
    }
    write_resumably(
        files, ids, extraction, dtype="float32", batch_size=extraction.batch_size, origin={}
    )


# --- the peers' way ------------------------------------------------------------------------------


@cache
def open_stimuli(path: Path) -> h5py.Dataset:
    """The pictures of a file that is opened once."""
    return h5py.File(path)["imgBrick"]


def read_picture(scene: Scene, number: int) -> Image.Image:
    """One picture of the file."""
    return Image.fromarray(open_stimuli(scene.stimuli)[number])


def latents_one_by_one(scene: Scene) -> Callable[[int], dict[str, np.ndarray]]:
    """PIL, the whole autoencoder's ``encode``, back to the host."""
    folder = scene.models / "stable-diffusion" / "vae"
    autoencoder = vae_latent.load_autoencoder(folder, device=scene.device)
    size = (scene.size.image_size,) * 2

    def embed(number: int) -> dict[str, np.ndarray]:
        picture = read_picture(scene, number).resize(size, Image.Resampling.LANCZOS)
        image = transforms.to_tensor(picture)[None].to(scene.device) * 2 - 1
        mode = autoencoder.encode(image).latent_dist.mode()
        return {"vae_latent": (mode * autoencoder.config.scaling_factor).cpu().numpy()}

    return embed


def texts_one_by_one(scene: Scene) -> Callable[[int], dict[str, np.ndarray]]:
    """Each caption by itself, then their mean."""
    text = clip_text.load_clip_text(scene.models / "stable-diffusion", device=scene.device)

    def embed(number: int) -> dict[str, np.ndarray]:
        states = [text.embed([caption]) for caption in scene.captions[number]]
        return {"clip_text": torch.cat(states).mean(dim=0, keepdim=True).cpu().numpy()}

    return embed


def layers_one_by_one(scene: Scene) -> Callable[[int], dict[str, np.ndarray]]:
    """Hooks on open_clip's blocks, and its own forward pass."""
    visual = load_layers(scene).visual
    seen: dict[str, np.ndarray] = {}

    def keep(name: str) -> Callable:
        def hook(_module, _inputs, output) -> None:
            seen[name] = output.cpu().numpy()

        return hook

    for layer in LAYERS:
        block = visual.transformer.resblocks[layer - 1]
        block.register_forward_hook(keep(targets.clip_image_target(layer)))

    def embed(number: int) -> dict[str, np.ndarray]:
        image = transforms.to_tensor(read_picture(scene, number))
        resized = transforms.resize(image, list(visual.image_size), antialias=True)
        normalised = transforms.normalize(resized, *MEANS_AND_DEVIATIONS["clip"])
        visual(normalised[None].to(scene.device))
        return dict(seen)

    return embed


@torch.no_grad()
def extract_one_by_one(embed: Callable, ids: np.ndarray, folder: Path) -> None:
    """Every row in memory, then one file per target."""
    rows = [embed(int(number)) for number in ids]
    for name in rows[0]:
        with h5py.File(folder / f"{name}.h5", "w") as file:
            file["embedding"] = np.concatenate([row[name] for row in rows])


# --- comparing -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """One extraction, ours and the peers'."""

    name: str
    ours: Callable[[Scene], targets.Extraction]
    peer: Callable[[Scene], Callable]
    targets: int


CASES = (
    Case("vae_latent", extract_latents, latents_one_by_one, 1),
    Case("clip_text", extract_texts, texts_one_by_one, 1),
    Case("clip_image", extract_layers, layers_one_by_one, len(LAYERS)),
)


def measure_rate(extract: Callable, way: Callable, ids: np.ndarray, folder: Path) -> float:
    """Images per second."""
    folder.mkdir(exist_ok=True)
    started = time.perf_counter()
    extract(way, ids, folder)
    return len(ids) / (time.perf_counter() - started)


def compare(case: Case, scene: Scene) -> Row:
    """Measures both in turn; values must agree."""
    ids, folder = scene.ids(case.name), scene.folder / case.name
    folder.mkdir(exist_ok=True)
    ours, peer = case.ours(scene), case.peer(scene)
    warm = ids[: min(len(ids), ours.batch_size)]
    measure_rate(extract_to_files, ours, warm, folder / "warm")
    with whole_float32():
        measure_rate(extract_one_by_one, peer, ids[:1], folder / "warm")
    rates = []
    for _ in range(scene.size.repeats):
        ours_rate = measure_rate(extract_to_files, ours, ids, folder / "ours")
        with whole_float32():
            peer_rate = measure_rate(extract_one_by_one, peer, ids, folder / "peer")
        rates.append((ours_rate, peer_rate))
    refuse_difference(folder / "ours", folder / "peer")
    ours_rate, peer_rate = (median(of_one) for of_one in zip(*rates, strict=True))
    floor = measure_matrix_rate(scene.device, scene.dtype) / count_operations(ours, ids)
    return Row(case.name, ours_rate, "images/s", peer_rate, floor, is_rate=True)


def compare_half(case: Case, scene: Scene) -> Row:
    """Ours in float16, which has no peer of equal arithmetic."""
    half = replace(scene, precision="float16")
    ids, folder = scene.ids(case.name), scene.folder / case.name
    ours = case.ours(half)
    measure_rate(extract_to_files, ours, ids[: ours.batch_size], folder / "warm")
    rate = median(
        measure_rate(extract_to_files, ours, ids, folder / "half")
        for _ in range(scene.size.repeats)
    )
    floor = measure_matrix_rate(half.device, half.dtype) / count_operations(ours, ids)
    return Row(f"{case.name} in float16", rate, "images/s", floor=floor, is_rate=True)


def whole_float32():
    """On the peers' side, too, no product is rounded; their kernels keep all threads."""
    return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)


def refuse_difference(folder: Path, other: Path) -> None:
    """Ends the benchmark where two folders of targets do not hold the same values."""
    for path in sorted(folder.glob("*.h5")):
        first = storage.read_array(path, "embedding")
        second = storage.read_array(other / path.name, "embedding")
        difference = float(np.abs(first - second).max())
        assert difference < TOLERANCE, f"{path.name}: values differ by {difference}"


def count_operations(extraction: targets.Extraction, ids: np.ndarray) -> float:
    """Floating-point operations per image, of matrix products and convolutions."""
    batch = extraction.prepare(ids[: extraction.batch_size])
    with FlopCounterMode(display=False) as counter:
        extraction.embed(batch)
    return counter.get_total_flops() / min(len(ids), extraction.batch_size)


def add_up(rows: Sequence[Row], name: str) -> Row:
    """Hours for every image of NSD and all eight targets."""
    ours = sum(NSD_IMAGES / row.value for row in rows) / 3600
    known = all(row.peer for row in rows)
    peer = sum(NSD_IMAGES / row.peer for row in rows) / 3600 if known else None
    floor = sum(NSD_IMAGES / row.floor for row in rows) / 3600
    return Row(name, ours, "h", peer, floor)


def compare_all(scene: Scene) -> Iterator[Row]:
    """Every row of the benchmark."""
    total = f"{NSD_IMAGES:,} images, {sum(case.targets for case in CASES)} targets"
    rows = [compare(case, scene) for case in CASES]
    yield from [*rows, add_up(rows, total)]
    if scene.device == "cuda":
        halves = [compare_half(case, scene) for case in CASES]
        yield from [*halves, add_up(halves, f"{total} in float16")]


# --- all of it -----------------------------------------------------------------------------------

SIZES = {
    "tiny": Size(
        use_miniature,
        stimulus=64,
        image_size=64,
        images={"vae_latent": 20, "clip_text": 20, "clip_image": 20},
        images_on_gpu=20,
        repeats=1,
    ),
    "small": Size(
        use_miniature,
        stimulus=64,
        image_size=64,
        images={"vae_latent": 512, "clip_text": 512, "clip_image": 512},
        images_on_gpu=1024,
        repeats=5,
    ),
    "full": Size(
        write_full_size,
        stimulus=425,
        image_size=512,
        images={"vae_latent": 4, "clip_text": 12, "clip_image": 64},
        images_on_gpu=1024,
        repeats=1,
    ),
}


def describe_set_up(scene: Scene) -> str:
    """What is measured where."""
    counts = ", ".join(f"{len(scene.ids(case.name))} for {case.name}" for case in CASES)
    lines = [
        f"{describe_device(scene.device)}.",
        f"Images: {counts}, of {scene.size.stimulus} pixels; the autoencoder sees "
        f"{scene.size.image_size}. {CAPTIONS_OF_AN_IMAGE} captions of an image.",
        f"Both sides in float32 on {scene.threads} CPU threads, from file to file, in turn; runs: "
        f"{scene.size.repeats}, their median. Values agree within {TOLERANCE:g}. Floor: operations "
        "at the rate of a matrix product.",
    ]
    return "\n".join(lines)


def run(scene: Scene, path_to_json: Path | None) -> None:
    """Writes the stimuli, measures, prints the table."""
    torch.set_num_threads(scene.threads)
    runtime._execution = runtime.Execution(device=scene.device, threads=scene.threads)
    write_stimuli(scene)
    print(describe_set_up(scene), end="\n\n", flush=True)
    rows = list(compare_all(scene))
    print(format_table(rows))
    if path_to_json:
        write_rows(path_to_json, rows, device=describe_device(scene.device))


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument(
        "--full", dest="size", action="store_const", const="full", help="models of the real size"
    )
    parser.add_argument("--threads", type=int, default=Runtime().threads, help="of both sides")
    parser.add_argument("--json", type=Path, help="where the rows go")
    options = parser.parse_args()
    size = SIZES[options.size]
    with tempfile.TemporaryDirectory() as temporary:
        scene = Scene(
            folder=Path(temporary),
            models=size.write_models(Path(temporary)),
            size=size,
            device="cuda" if torch.cuda.is_available() else "cpu",
            threads=options.threads,
        )
        run(scene, options.json)


if __name__ == "__main__":
    main()
