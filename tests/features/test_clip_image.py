import numpy as np
import pytest
import tiny_models
import torch
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from neuraldiffuser.errors import ConfigError, DataError
from neuraldiffuser.features import clip_image, images

LAYERS = (2, 4, 6, 8, 10, 12)
CORRECTED = {"node": "block_output", "normalisation": "clip", "antialias": True}
RELEASED = {"node": "mlp_projection", "normalisation": "imagenet", "antialias": False}


def load(folder, **changes):
    arguments = CORRECTED | {"layers": LAYERS} | changes
    return clip_image.load_clip_image(folder, **arguments)


def forward_by_hand(folder, normalised):
    """Every block's output and MLP projection, from the stored weights alone."""
    from safetensors.torch import load_file

    weights = load_file(folder / "open_clip_model.safetensors")
    weights = {name: tensor.double() for name, tensor in weights.items()}
    width, heads = tiny_models.CLIP_SHAPE[1], 2

    def norm(x, name):
        return functional.layer_norm(
            x, (width,), weights[f"visual.{name}.weight"], weights[f"visual.{name}.bias"]
        )

    patches = functional.conv2d(normalised.double(), weights["visual.conv1.weight"], stride=8)
    patches = patches.flatten(2).transpose(1, 2)
    first = weights["visual.class_embedding"].expand(len(patches), 1, width)
    x = torch.cat([first, patches], dim=1) + weights["visual.positional_embedding"]
    x = norm(x, "ln_pre")
    outputs, projections = [], []
    for number in range(tiny_models.CLIP_BLOCKS):
        block = f"transformer.resblocks.{number}"
        named = f"visual.{block}"
        inside = norm(x, f"{block}.ln_1")
        inside = inside @ weights[f"{named}.attn.in_proj_weight"].T
        inside = inside + weights[f"{named}.attn.in_proj_bias"]
        query, key, value = (
            part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in inside.chunk(3, dim=-1)
        )
        scores = query @ key.transpose(-1, -2) / (width / heads) ** 0.5
        mixed = (scores.softmax(dim=-1) @ value).transpose(1, 2).flatten(2)
        attended = mixed @ weights[f"{named}.attn.out_proj.weight"].T
        x = x + attended + weights[f"{named}.attn.out_proj.bias"]
        inside = norm(x, f"{block}.ln_2") @ weights[f"{named}.mlp.c_fc.weight"].T
        inside = inside + weights[f"{named}.mlp.c_fc.bias"]
        inside = inside * torch.sigmoid(1.702 * inside)
        projection = inside @ weights[f"{named}.mlp.c_proj.weight"].T
        projection = projection + weights[f"{named}.mlp.c_proj.bias"]
        x = x + projection
        outputs.append(x)
        projections.append(projection)
    return outputs, projections


@pytest.mark.parametrize("normalisation", list(images.MEANS_AND_DEVIATIONS))
def test_both_nodes_equal_a_forward_pass_by_hand(clip_folder, pictures, normalisation):
    unit = images.to_unit_range(pictures)
    normalised = images.normalise(images.resize(unit, 32, antialias=True), normalisation)
    outputs, projections = forward_by_hand(clip_folder, normalised)
    by_node = {
        "block_output": {layer: outputs[layer - 1] for layer in LAYERS},
        "mlp_projection": {layer: projections[layer // 2 - 1] for layer in LAYERS},
    }
    assert set(by_node) == set(clip_image.NODES)
    for node, expected in by_node.items():
        features = load(clip_folder, node=node, normalisation=normalisation)(unit)
        assert list(features) == list(LAYERS)
        for layer in LAYERS:
            assert features[layer].shape == (5, *tiny_models.CLIP_SHAPE)
            torch.testing.assert_close(
                features[layer], expected[layer].float(), atol=1e-4, rtol=1e-4
            )


def test_last_block_continues_to_open_clips_own_embedding(clip_folder, pictures):
    unit = images.to_unit_range(pictures)
    clip = load(clip_folder)
    tokens = clip(unit)[12]
    pooled = clip.visual.ln_post(tokens[:, 0]) @ clip.visual.proj
    normalised = images.normalise(images.resize(unit, 32, antialias=True), "clip")
    torch.testing.assert_close(pooled, clip.visual(normalised), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("tracked", [False, True])
def test_attention_is_the_modules_and_fused(clip_folder, tracked):
    attention = load(clip_folder).visual.transformer.resblocks[3].attn
    tokens = torch.randn(5, *tiny_models.CLIP_SHAPE, generator=torch.Generator().manual_seed(0))
    tokens.requires_grad_(tracked)
    expected = attention(tokens, tokens, tokens, need_weights=False)[0]
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):  # refuses what it cannot fuse
        found = clip_image.attend(attention, tokens)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_a_gradient_changes_no_feature(clip_folder, pictures):
    """What guides is bit for bit what was extracted."""
    clip, unit = load(clip_folder), images.to_unit_range(pictures)
    guiding = clip(unit.clone().requires_grad_())
    with torch.inference_mode():
        extracted = clip(unit)
    assert all(torch.equal(guiding[layer], extracted[layer]) for layer in LAYERS)


def test_a_batch_equals_its_images_one_by_one(clip_folder, pictures):
    clip = load(clip_folder)
    unit = images.to_unit_range(pictures)
    together = clip(unit)
    for number in range(len(unit)):
        alone = clip(unit[number : number + 1])
        for layer in LAYERS:
            torch.testing.assert_close(together[layer][number], alone[layer][0], atol=1e-4, rtol=0)


def test_layers_can_be_read_alone(clip_folder, pictures):
    unit = images.to_unit_range(pictures)
    everything, some = load(clip_folder)(unit), load(clip_folder, layers=(4, 8))(unit)
    assert list(some) == [4, 8]
    assert all(torch.equal(some[layer], everything[layer]) for layer in some)


@pytest.mark.parametrize("switch", list(CORRECTED))
def test_every_switch_changes_the_features(clip_folder, pictures, switch):
    unit = images.to_unit_range(pictures)
    first = load(clip_folder)(unit)
    other = load(clip_folder, **{switch: RELEASED[switch]})(unit)
    assert all((first[layer] - other[layer]).abs().max() > 1e-3 for layer in LAYERS)


def test_gradient_equals_finite_differences(clip_folder, pictures):
    clip = load(clip_folder, dtype=torch.float64)
    unit = images.to_unit_range(pictures[:1]).double()

    def loss(image):
        return sum(features.square().sum() for features in clip(image).values())

    direction = torch.from_numpy(np.random.default_rng(0).standard_normal(unit.shape))
    tracked = unit.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(tracked), tracked)
    step = 1e-5
    measured = (loss(unit + step * direction) - loss(unit - step * direction)) / (2 * step)
    torch.testing.assert_close((gradient * direction).sum(), measured, rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    ("node", "layers"),
    [("block_output", (2, 14)), ("mlp_projection", (2, 3)), ("mlp_projection", (1, 2))],
)
def test_layers_that_the_tower_lacks_are_refused(clip_folder, node, layers):
    with pytest.raises(ConfigError, match="the tower has blocks 1 to 12; name layers in"):
        load(clip_folder, node=node, layers=layers)


def test_missing_and_truncated_weights_are_refused(clip_folder, tmp_path):
    with pytest.raises(DataError, match="holds no safetensors of an open_clip model"):
        load(tmp_path)
    for name in ("open_clip_config.json", "open_clip_model.safetensors"):
        (tmp_path / name).write_bytes((clip_folder / name).read_bytes()[:200])
    with pytest.raises(DataError, match="is no readable open_clip model"):
        load(tmp_path)
