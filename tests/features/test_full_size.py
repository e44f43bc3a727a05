"""The loaders on models of full size, beside plain passes that share no code with them.

References take one image or caption at a time. The transformers' are written out here and read the
published names from the file, so they also prove that every weight has reached its place.
"""

import hashlib
import json
import math
import random
import shutil
from pathlib import Path

import neuraldiffuser.torchvision_schemas  # noqa: F401  before open_clip and torchvision

import full_size_models
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from torch.nn import functional

from neuraldiffuser.config.evaluation import NSD_NETWORKS
from neuraldiffuser.config.models import ZOO
from neuraldiffuser.features import clip_image, clip_text, images, vae_latent
from neuraldiffuser.features.networks import load_network

LAYERS = (2, 4, 6, 8, 10, 12)
WEIGHTS = "diffusion_pytorch_model.safetensors"
MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073])[:, None, None]
DEVIATION = torch.tensor([0.26862954, 0.26130258, 0.27577711])[:, None, None]
CAPTIONS = [
    [
        "A man riding a wave on top of a surfboard.",
        "A surfer in a black wetsuit rides a small wave",
        "The man's surfboard isn't touching the water!",
        "a person on a surf board in the ocean ",
        "Two people  watch a 30-year-old surfer, who is about to fall.",
    ],
    ["Several giraffes stand in an enclosure near trees and a building."],
]


@pytest.fixture(scope="session")
def stable_diffusion_v1_4(tmp_path_factory):
    folder = tmp_path_factory.mktemp("full") / "stable-diffusion-v1-4"
    yield full_size_models.write_stable_diffusion(folder)
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def vit_b_32(tmp_path_factory):
    folder = tmp_path_factory.mktemp("full") / "clip-vit-b-32"
    yield full_size_models.write_clip(folder, "ViT-B-32-quickgelu")
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def stimuli():
    """Four smooth uint8 pictures of NSD's size and of different tints, (4, 425, 425, 3)."""
    source = np.random.default_rng(5)
    coarse = torch.from_numpy(source.random((4, 3, 17, 17)) * source.random((4, 3, 1, 1)))
    smooth = functional.interpolate(coarse, size=425, mode="bicubic", align_corners=False)
    return smooth.clamp(0, 1).mul(255).byte().permute(0, 2, 3, 1).contiguous().numpy()


# --- transformers by hand ---------------------------------------------------------------------


def norm(x, weights, name):
    return functional.layer_norm(
        x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"]
    )


def linear(x, weights, name):
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def quick_gelu(x):
    return x * torch.sigmoid(1.702 * x)


def gelu(x):
    return x * (1 + torch.erf(x / math.sqrt(2))) / 2


def attend(query, key, value, *, heads, mask=0.0):
    """Softmax(Q K^T / sqrt(d)) V for (tokens, width) each, every head in turn."""
    mixed = [
        torch.softmax(q @ k.T / math.sqrt(q.shape[-1]) + mask, dim=-1) @ v
        for q, k, v in zip(
            *(part.chunk(heads, dim=-1) for part in (query, key, value)), strict=True
        )
    ]
    return torch.cat(mixed, dim=-1)


def image_tower(image, weights, *, heads, patch, activation=quick_gelu):
    """One normalised image (3, h, w) to block outputs, MLP projections and the embedding."""
    patches = functional.conv2d(image[None], weights["visual.conv1.weight"], stride=patch)[0]
    tokens = torch.cat([weights["visual.class_embedding"][None], patches.flatten(1).T])
    x = norm(tokens + weights["visual.positional_embedding"], weights, "visual.ln_pre")
    outputs, projections = [], []
    while f"{(name := f'visual.transformer.resblocks.{len(outputs)}')}.ln_1.weight" in weights:
        inside = norm(x, weights, f"{name}.ln_1") @ weights[f"{name}.attn.in_proj_weight"].T
        parts = (inside + weights[f"{name}.attn.in_proj_bias"]).chunk(3, dim=-1)
        x = x + linear(attend(*parts, heads=heads), weights, f"{name}.attn.out_proj")
        inside = activation(linear(norm(x, weights, f"{name}.ln_2"), weights, f"{name}.mlp.c_fc"))
        projections.append(linear(inside, weights, f"{name}.mlp.c_proj"))
        x = x + projections[-1]
        outputs.append(x)
    embedding = norm(x[0], weights, "visual.ln_post") @ weights["visual.proj"]
    return outputs, projections, embedding


def text_tower(numbers, weights, *, heads=12):
    """Token numbers (77,) to the states after the final layer norm, (77, 768)."""
    embeddings = "text_model.embeddings"
    x = weights[f"{embeddings}.token_embedding.weight"][numbers]
    x = x + weights[f"{embeddings}.position_embedding.weight"]
    mask = torch.full((len(x), len(x)), -math.inf).triu(1)
    for number in range(12):
        name = f"text_model.encoder.layers.{number}"
        inside = norm(x, weights, f"{name}.layer_norm1")
        parts = (linear(inside, weights, f"{name}.self_attn.{part}_proj") for part in "qkv")
        mixed = attend(*parts, heads=heads, mask=mask)
        x = x + linear(mixed, weights, f"{name}.self_attn.out_proj")
        inside = linear(norm(x, weights, f"{name}.layer_norm2"), weights, f"{name}.mlp.fc1")
        x = x + linear(quick_gelu(inside), weights, f"{name}.mlp.fc2")
    return norm(x, weights, "text_model.final_layer_norm")


def read_weights(path, *, prefix, dtype):
    """The tensors of a safetensors file whose names begin with ``prefix``."""
    with safe_open(path, "pt") as file:
        names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118
        return {name: file.get_tensor(name).to(dtype) for name in names}


def assert_equal(ours, plain):
    torch.testing.assert_close(ours, plain.to(ours.dtype), atol=1e-4, rtol=0)


# --- sizes ------------------------------------------------------------------------------------


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def published_bytes(shapes, metadata):
    """Bytes of the safetensors file that holds float32 tensors of these shapes."""
    header, end = dict(metadata), 0
    for name, shape in sorted(shapes.items()):
        start, end = end, end + 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [start, end]}
    return 8 + len(json.dumps(header, separators=(",", ":"))) + end


def test_names_and_shapes_of_the_denoiser_are_the_published_ones():
    shapes = full_size_models.unet_shapes()
    assert sum(math.prod(shape) for shape in shapes.values()) == 859_520_964
    written = published_bytes(shapes, {"__metadata__": {"format": "pt"}})
    assert written == full_size_models.PUBLISHED_BYTES["unet"]


@pytest.mark.parametrize(
    ("part", "file"), [("vae", WEIGHTS), ("text_encoder", "model.safetensors")]
)
def test_files_of_stable_diffusion_have_their_published_sizes(stable_diffusion_v1_4, part, file):
    size = (stable_diffusion_v1_4 / part / file).stat().st_size
    assert abs(size - full_size_models.PUBLISHED_BYTES[part]) < 8
    assert ZOO["stable-diffusion-v1-4"].files[f"{part}/{file}"].size in (None, size, size - 1)


# --- Stable Diffusion -------------------------------------------------------------------------


@torch.no_grad()
def test_latents_in_a_batch_equal_the_image_alone(stable_diffusion_v1_4, stimuli):
    from diffusers import AutoencoderKL

    folder = stable_diffusion_v1_4 / "vae"
    plain = AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
    )
    assert count(plain) == 83_653_863
    renamed = full_size_models.LEGACY_ATTENTION.items()
    weights = load_file(folder / WEIGHTS)
    for today, then in renamed:
        weights = {name.replace(then, today): tensor for name, tensor in weights.items()}
    plain.load_state_dict(weights)
    large = Image.fromarray(stimuli[1]).resize((512, 512), Image.Resampling.LANCZOS)
    signed = torch.from_numpy(np.asarray(large, dtype=np.float32) / 127.5 - 1)
    expected = 0.18215 * plain.quant_conv(plain.encoder(signed.permute(2, 0, 1)[None]))[0, :4]
    del plain

    encoder = vae_latent.load_encoder(folder)
    resized = vae_latent.resize_stimuli(stimuli[:2], image_size=512, source_size=None)
    prepared = vae_latent.normalise_stimuli(resized, image_size=512, source_size=None)
    latents = vae_latent.encode_latents(encoder, prepared, posterior="mode", draw=lambda: None)
    assert latents.shape == (2, 4, 64, 64)
    assert vae_latent.latent_shape(encoder, 512) == (4, 64, 64)
    assert_equal(latents[1], expected)
    assert (latents[0] - latents[1]).abs().max() > 0.05


def test_the_autoencoder_has_its_published_number_of_parameters(stable_diffusion_v1_4):
    assert count(vae_latent.load_autoencoder(stable_diffusion_v1_4 / "vae")) == 83_653_863


@pytest.fixture(scope="module")
def text(stable_diffusion_v1_4):
    return clip_text.load_clip_text(stable_diffusion_v1_4)


def tokenize_with_open_clip(captions):
    """open_clip's numbers, padded as Stable Diffusion pads: with the end of the text."""
    import open_clip

    numbers = open_clip.tokenizer.SimpleTokenizer()(captions, context_length=77)
    ends = numbers.argmax(dim=1, keepdim=True)  # the end of the text has the highest number
    return torch.where(torch.arange(77) > ends, 49407, numbers)


@torch.no_grad()
def test_text_states_equal_each_caption_alone(stable_diffusion_v1_4, text):
    assert count(text.encoder) == 123_060_480
    wordings = clip_text.tokenise_captions(text, CAPTIONS, selection="mean")
    embedded = clip_text.embed_captions(text, wordings)
    assert embedded.shape == (2, 77, 768)
    path = stable_diffusion_v1_4 / "text_encoder" / "model.safetensors"
    weights = read_weights(path, prefix="text_model.", dtype=torch.float32)
    for row, captions in zip(embedded, CAPTIONS, strict=True):
        states = [text_tower(numbers, weights) for numbers in tokenize_with_open_clip(captions)]
        assert_equal(row, sum(states) / len(states))
    assert (embedded[0] - embedded[1])[1:].abs().mean() > 0.1


def made_up_captions(text, how_many):
    """Captions of random words of CLIP's own vocabulary, from 1 to 90 words long."""
    source = random.Random(0)
    pieces = text.tokenizer.get_vocab()
    words = sorted(p[:-4] for p in pieces if p.endswith("</w>") and p[:-4].isascii())
    marks = ["", "", "", "", ",", ".", "!", "'s", " -", '"', "..", " & ", ";", " 's"]
    return [
        " ".join(
            source.choice((str.lower, str.title, str.upper))(source.choice(words))
            + source.choice(marks)
            for _ in range(source.choice((1, 5, 9, 12, 14, 90)))
        )
        for _ in range(how_many)
    ]


def test_captions_become_the_token_numbers_of_clip(text, stable_diffusion_v1_4):
    captions = [caption for of_image in CAPTIONS for caption in of_image]
    captions += ["", " ", "a\ncat\t on a  mat \n", "it's 12:30, isn't it?!", "x" * 300]
    captions += ["a café in São Paulo", "東京の桜", "naïve 🙂 smile"]
    captions += ["the man’s “dog”", "Tom &amp; Jerry", "a ﬁsh…"]
    captions += made_up_captions(text, 2000)
    numbers, expected = text.tokenise(captions), tokenize_with_open_clip(captions)
    different = [c for c, a, b in zip(captions, numbers, expected, strict=True) if (a != b).any()]
    assert not different
    assert len(text.tokenizer) == 49_408
    assert len(numbers.unique()) > 10_000
    for name, digest in full_size_models.PUBLISHED_SHA256.items():
        content = (stable_diffusion_v1_4 / "tokenizer" / name).read_bytes()
        assert hashlib.sha256(content).hexdigest() == digest


# --- CLIP image towers ------------------------------------------------------------------------


def normalise_alone(picture, size):
    """One uint8 picture as CLIP sees it, through torchvision."""
    from torchvision.transforms.functional import resize

    unit = torch.from_numpy(picture).permute(2, 0, 1).float() / 255
    return (resize(unit, [size, size], antialias=True) - MEAN) / DEVIATION


def load_layers(folder, node):
    return clip_image.load_clip_image(
        folder, node=node, normalisation="clip", antialias=True, layers=LAYERS
    )


@torch.no_grad()
def test_both_nodes_equal_a_pass_by_hand_up_to_them(vit_b_32, stimuli):
    path = vit_b_32 / "open_clip_model.safetensors"
    assert abs(path.stat().st_size - full_size_models.PUBLISHED_BYTES["ViT-B-32-quickgelu"]) < 8
    weights = read_weights(path, prefix="visual.", dtype=torch.float64)
    passes = [
        image_tower(normalise_alone(picture, 224).double(), weights, heads=12, patch=32)
        for picture in stimuli
    ]
    for node, blocks in (("block_output", LAYERS), ("mlp_projection", (1, 2, 3, 4, 5, 6))):
        clip = load_layers(vit_b_32, node)
        assert count(clip) == 87_849_216
        features = clip(images.to_unit_range(stimuli))
        assert list(features) == list(LAYERS)
        for layer, block in zip(LAYERS, blocks, strict=True):
            assert features[layer].shape == (4, 50, 768)
            for ours, (outputs, projections, _embedding) in zip(
                features[layer], passes, strict=True
            ):
                read = outputs if node == "block_output" else projections
                assert_equal(ours, read[block - 1])


@torch.no_grad()
@pytest.mark.parametrize(("quick", "activation"), [(True, quick_gelu), (False, gelu)])
def test_the_activation_is_the_one_that_the_configuration_names(
    vit_b_32, stimuli, tmp_path, quick, activation
):
    stated = json.loads((vit_b_32 / "open_clip_config.json").read_text())
    assert stated["model_cfg"]["quick_gelu"] is True
    stated["model_cfg"]["quick_gelu"] = quick
    (tmp_path / "open_clip_config.json").write_text(json.dumps(stated))
    name = "open_clip_model.safetensors"
    (tmp_path / name).symlink_to(vit_b_32 / name)
    clip = load_layers(tmp_path, "block_output")
    ours = clip(images.to_unit_range(stimuli[:1]))[12][0]
    weights = read_weights(vit_b_32 / name, prefix="visual.", dtype=torch.float32)
    image = normalise_alone(stimuli[0], 224)
    by_hand = {
        chosen: image_tower(image, weights, heads=12, patch=32, activation=chosen)[0][11]
        for chosen in (quick_gelu, gelu)
    }
    assert_equal(ours, by_hand.pop(activation))
    assert (ours - by_hand.popitem()[1]).abs().max() > 1e-2


@torch.no_grad()
def test_the_judging_tower_equals_a_pass_by_hand(tmp_path, stimuli):
    folder = full_size_models.write_clip(tmp_path / "clip-vit-l-14", "ViT-L-14-quickgelu")
    path = folder / "open_clip_model.safetensors"
    assert abs(path.stat().st_size - full_size_models.PUBLISHED_BYTES["ViT-L-14-quickgelu"]) < 8
    network = load_network(NSD_NETWORKS["clip"], loader="open_clip", path_to_weights=folder)
    assert count(network) == 303_966_208
    together = network(images.to_unit_range(stimuli[:2]))["embedding"]
    del network
    weights = read_weights(path, prefix="visual.", dtype=torch.float32)
    assert together.shape == (2, 768)
    for ours, picture in zip(together, stimuli[:2], strict=True):
        outputs, _projections, embedding = image_tower(
            normalise_alone(picture, 224), weights, heads=16, patch=14
        )
        assert len(outputs) == 24
        assert_equal(ours, embedding)
    assert (together[0] - together[1]).abs().max() > 0.1
    shutil.rmtree(folder)


# --- the other judges -------------------------------------------------------------------------


def read_alexnet(network, image):
    return {"layer_2": network.features[:5](image), "layer_5": network.features[:12](image)}


def read_inception(network, image):
    """ImageNet's normalisation undone: the pretrained network wants -1 to 1."""
    deviation = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    kept = []
    network.avgpool.register_forward_hook(lambda *passed: kept.append(passed[-1]))
    logits = network((image * deviation + mean) * 2 - 1)
    return {"pooled": kept[0], "logits": logits}


def read_pooled(network, image):
    layers = list(network.children())
    after = [type(layer).__name__ for layer in layers].index("AdaptiveAvgPool2d")
    return {"pooled": torch.nn.Sequential(*layers[: after + 1])(image)}


JUDGES = {
    "alexnet": ("alexnet", 61_100_840, read_alexnet),
    "inception": ("inception_v3", 27_161_264, read_inception),
    "efficientnet": ("efficientnet_b1", 7_794_184, read_pooled),
    "swav": ("swav_resnet50", 23_508_032, read_pooled),
}


def plain_judge(path: Path, loader):
    """torchvision's network with the file's weights, its names cut by hand."""
    network = full_size_models.build_judges()[loader].eval()
    weights = {n.removeprefix("module."): t for n, t in torch.load(path).items()}
    unexpected = network.load_state_dict(weights, assign=True, strict=False)[1]
    assert all(name.startswith(("projection_head", "prototypes")) for name in unexpected)
    return network


@torch.no_grad()
@pytest.mark.parametrize("name", JUDGES)
def test_judges_equal_plain_networks_image_by_image(tmp_path, stimuli, name):
    from torchvision.transforms.functional import normalize, resize

    loader, parameters, read = JUDGES[name]
    settings = NSD_NETWORKS[name]
    path = full_size_models.write_judge(tmp_path / "weights.pth", loader)
    network = load_network(settings, loader=loader, path_to_weights=path)
    assert count(network) == parameters
    together = network(images.to_unit_range(stimuli[:3]))
    plain = plain_judge(path, loader)
    for number, picture in enumerate(stimuli[:3]):
        unit = torch.from_numpy(picture).permute(2, 0, 1).float() / 255
        small = resize(unit, [settings.size] * 2, antialias=True)
        image = normalize(small, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        expected = read(plain, image[None])
        for node in settings.nodes:
            ours, alone = together[node][number], expected[node].flatten()
            torch.testing.assert_close(ours, alone, atol=1e-4, rtol=1e-4)
    for node in settings.nodes:
        assert together[node].std(dim=0).max() > 1e-3  # ten times what may differ
    path.unlink()


@pytest.mark.parametrize("change", ["written by torch of 2017", "without counts of batches"])
def test_older_files_of_torch_are_read(tmp_path, change):
    """AlexNet's and Inception's weights were first published before torch wrote zip archives."""
    path = full_size_models.write_judge(tmp_path / "weights.pth", "inception_v3")
    settings = NSD_NETWORKS["inception"]
    today = load_network(settings, loader="inception_v3", path_to_weights=path)
    weights = torch.load(path)
    if change == "without counts of batches":
        weights = {n: t for n, t in weights.items() if not n.endswith("num_batches_tracked")}
    torch.save(weights, path, _use_new_zipfile_serialization=False)
    then = load_network(settings, loader="inception_v3", path_to_weights=path)
    for ours, expected in zip(then.parameters(), today.parameters(), strict=True):
        assert torch.equal(ours, expected)
