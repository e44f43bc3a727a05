"""Full-size networks have the paper's parameter counts; nothing is allocated (meta device)."""

import pytest
import torch

from neuraldiffuser.config.decoder import Recipe
from neuraldiffuser.decoders.architectures import build_decoder, count_parameters

# nsdgeneral voxels of subjects 1 to 8 (func1pt8mm).
VOXELS = (15724, 14278, 15226, 13153, 13039, 17907, 12682, 14386)
TEXT, IMAGE = (77, 768), (50, 768)


def build(shape, counts, target="clip_text", recipe=None):
    names = {f"subj{number:02d}": count for number, count in enumerate(counts, start=1)}
    with torch.device("meta"):
        return build_decoder(target, shape, voxel_counts=names, recipe=recipe or Recipe())


def millions_of(module) -> float:
    return round(count_parameters(module) / 1e6, 1)


@pytest.mark.parametrize(
    ("shape", "counts", "millions"),
    [
        (TEXT, VOXELS[:1], 497.9),
        (TEXT, VOXELS[1:], 845.9),
        (IMAGE, VOXELS[:1], 412.9),
        (IMAGE, VOXELS[1:], 760.9),
    ],
)
def test_whole_network_has_the_papers_size(shape, counts, millions):
    assert millions_of(build(shape, counts)) == millions


@pytest.mark.parametrize(("shape", "core", "prior"), [(TEXT, 433.5, 55.2), (IMAGE, 348.5, 55.1)])
def test_parts_have_the_released_sizes(shape, core, prior):
    model = build(shape, VOXELS[:1])
    encoder = count_parameters(model.voxel_encoder)
    assert encoder == 15724 * 4096 + 4096
    whole = count_parameters(model)
    assert round((whole - encoder) / 1e6, 1) == core
    assert millions_of(model.prior) == prior
    assert count_parameters(model.projector) == 3 * (768 * 768 + 768) + 3 * 2 * 768
    assert count_parameters(model.backbone.channel_blocks) == 4 * (2 * (4096**2 + 4096) + 2 * 4096)
    tokens = shape[0] * shape[1]
    assert count_parameters(model.backbone.output) == 4096 * tokens + tokens


@pytest.mark.parametrize(("subject", "millions"), [(2, 492.0), (5, 486.9), (7, 485.5)])
def test_other_subjects_differ_by_their_voxel_encoder(subject, millions):
    assert millions_of(build(TEXT, [VOXELS[subject - 1]])) == millions


def test_low_level_pipeline_has_the_released_parts():
    model = build((4, 64, 64), VOXELS[:1], target="vae_latent")
    assert model.maps_shape == (64, 16, 16)
    assert count_parameters(model.voxel_encoder) == 15724 * 4096 + 2 * 4096
    assert count_parameters(model.blocks) == 4 * (4096**2 + 2 * 4096)
    assert count_parameters(model.to_maps) == 4096 * 16384
    projector = 64 * 512 + 512 * 512 + 512 * 512 + 512 + 2 * 2 * 512
    assert count_parameters(model.projector) == projector


def test_a_teacherless_low_level_pipeline_has_no_projector():
    recipe = Recipe()
    without = recipe.low_level.model_copy(update={"teacher": "none"})
    model = build(
        (4, 64, 64),
        VOXELS[:1],
        target="vae_latent",
        recipe=recipe.model_copy(update={"low_level": without}),
    )
    assert not hasattr(model, "projector")


def test_the_backbone_is_chosen_by_name():
    names = {
        name: type(build((3, 8), [5], recipe=Recipe(backbone=name)).backbone).__name__
        for name in ("released_mixer", "residual_mlp")
    }
    assert names == {"released_mixer": "ReleasedMixer", "residual_mlp": "ResidualMLP"}
