"""A stage of the decoders is told what its target's pipeline reads, and nothing else."""

import json

import pytest

from neuraldiffuser.config.decoder import Recipe
from neuraldiffuser.config.stages import parse_settings, stage_settings
from neuraldiffuser.config.validation import validate
from neuraldiffuser.errors import ConfigError

LATENT = {"vae_latent"}
CLIP = {"clip_text", "clip_image_02", "clip_image_04"}
TRAININGS = ("pretrain_decoder", "finetune_decoder", "train_from_scratch")
DECODINGS = ("predict_embeddings", "decode_by_ridge")


def configure(**decoder):
    """An experiment with few targets and some keys of the decoders changed."""
    return validate({"targets": {"clip_image": {"layers": [2, 4]}}, "decoder": decoder})


def targets_told(stage, **changes):
    """The targets for which a stage's settings change with some keys."""
    usual, changed = configure(), configure(**changes)
    return {
        target
        for target in usual.targets.names
        if stage_settings(stage, usual, {"target": target})
        != stage_settings(stage, changed, {"target": target})
    }


@pytest.mark.parametrize("stage", TRAININGS)
@pytest.mark.parametrize(
    ("changes", "targets"),
    [
        ({"low_level": {"teacher_weight": 0.2}}, LATENT),
        ({"low_level": {"teacher": "none"}}, LATENT),
        ({"prior": {"timesteps": 50}}, CLIP),
        ({"objective": {"prior_weight": 20}}, CLIP),
        ({"backbone": "residual_mlp"}, CLIP),
        ({"mixco_permutation": "global"}, CLIP),
        ({"target_scaling": "per_dimension"}, CLIP),
        ({"network": {"hidden_size": 64}}, LATENT | CLIP),
        ({"optimiser": {"weight_decay": 0.1}}, LATENT | CLIP),
        ({"prediction": {"prior_samples": 2, "alignment": "none"}}, set()),
        ({"ridge": {"penalties": [3.0]}}, set()),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_training_is_told_what_its_pipeline_reads(stage, changes, targets):
    assert targets_told(stage, **changes) == targets


@pytest.mark.parametrize("stage", TRAININGS)
@pytest.mark.parametrize("budget", ["pretraining", "finetuning"])
def test_a_training_is_told_its_own_budget(stage, budget):
    is_its_own = (stage == "pretrain_decoder") == (budget == "pretraining")
    assert targets_told(stage, **{budget: {"epochs": 3}}) == (
        LATENT | CLIP if is_its_own else set()
    )


@pytest.mark.parametrize("stage", DECODINGS)
@pytest.mark.parametrize(
    ("prediction", "targets"),
    [
        ({"aligned_targets": ["vae_latent", "clip_text"]}, {"clip_text"}),
        ({"aligned_targets": []}, {"vae_latent"}),
        ({"alignment": "validation_predictions"}, {"vae_latent"}),
        ({"alignment": "none"}, {"vae_latent"}),
    ],
)
def test_decoding_is_told_the_alignment_of_its_target(stage, prediction, targets):
    assert targets_told(stage, prediction=prediction) == targets


def test_ridge_regression_is_told_nothing_of_the_prior():
    assert not targets_told("decode_by_ridge", prediction={"prior_samples": 2})
    assert targets_told("predict_embeddings", prediction={"prior_samples": 2})


@pytest.mark.parametrize("target", sorted(LATENT | CLIP))
def test_a_recipe_is_read_as_it_was_written(target):
    config = configure(prior={"timesteps": 50}, low_level={"dropout": 0.1}, network={"blocks": 2})
    text = stage_settings("finetune_decoder", config, {"target": target})
    written = json.loads(text)["recipe"]
    other = {"low_level"} if target != "vae_latent" else {"prior", "objective", "backbone"}
    assert not other & set(written)
    read = parse_settings("finetune_decoder", text)["recipe"]
    assert read == config.finetuning_recipes[target]
    assert read.network.blocks == 2
    assert read.model_dump(mode="json") == written
    assert Recipe.model_validate(written) == read


@pytest.mark.parametrize("count", [0, 1])
def test_held_out_images_are_needed(count):
    with pytest.raises(ConfigError) as error:
        configure(validation_images=count)
    assert str(error.value) == (
        f"config: decoder.validation_images is {count}: input should be greater than or equal to 2."
    )


def test_a_misspelt_target_is_not_aligned_in_silence():
    with pytest.raises(ConfigError) as error:
        configure(prediction={"aligned_targets": ["vae_latents"]})
    assert str(error.value) == (
        "config: decoder.prediction.aligned_targets names vae_latents, which is no target; known "
        "targets are vae_latent, clip_text, clip_image_02, clip_image_04."
    )
