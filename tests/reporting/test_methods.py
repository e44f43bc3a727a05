from typing import Literal, get_args, get_origin

import pytest

from neuraldiffuser.config.decoder import DecoderSettings, Prediction
from neuraldiffuser.config.encoding import EncodingSettings
from neuraldiffuser.config.evaluation import Evaluation, RetrievalSettings
from neuraldiffuser.config.guidance import (
    ClipLayersSettings,
    EncoderSettings,
    GuidanceSettings,
)
from neuraldiffuser.config.reconstruction import Reconstruction
from neuraldiffuser.config.targets import ClipImageSettings, ClipTextSettings, VaeLatentSettings
from neuraldiffuser.config.voxels import Voxels
from neuraldiffuser.reporting import methods

WORDS = [
    (Voxels, "normalisation", methods.NORMALISATIONS),
    (Voxels, "invalid_voxels", methods.INVALID_VOXELS),
    (Voxels, "test_average", methods.TEST_AVERAGES),
    (Voxels, "missing_repeats", methods.MISSING_REPEATS),
    (VaeLatentSettings, "autoencoder", methods.AUTOENCODERS),
    (VaeLatentSettings, "posterior", methods.POSTERIORS),
    (ClipTextSettings, "captions", methods.CAPTIONS),
    (ClipImageSettings, "node", methods.NODES),
    (ClipImageSettings, "normalisation", methods.CHANNELS),
    (DecoderSettings, "backbone", methods.BACKBONES),
    (Prediction, "alignment", methods.ALIGNMENTS),
    (ClipLayersSettings, "loss", methods.CLIP_LOSSES),
    (EncoderSettings, "loss", methods.ENCODER_LOSSES),
    (EncoderSettings, "weighting", methods.WEIGHTINGS),
    (Reconstruction, "guided_steps", methods.GUIDED_STEPS),
    (Reconstruction, "tweedie", methods.TWEEDIE),
    (Reconstruction, "noise_timestep", methods.NOISE_LEVELS),
    (Evaluation, "identification", methods.IDENTIFICATIONS),
    (Evaluation, "ssim", methods.SSIMS),
    (Evaluation, "brain_correlation", methods.BRAIN_CORRELATIONS),
    (RetrievalSettings, "vote", methods.VOTES),
    (EncodingSettings, "source", methods.ENCODERS),
]


@pytest.mark.parametrize(("section", "key", "words"), WORDS, ids=lambda value: str(value)[-30:])
def test_every_value_of_a_switch_has_words_of_its_own(section, key, words):
    annotation = section.model_fields[key].annotation
    assert get_origin(annotation) is Literal
    assert set(words) == set(get_args(annotation)), f"reporting/methods.py must tell every {key}"
    assert len(set(words.values())) == len(words)


def test_the_methods_tell_the_values_that_were_used(config):
    told = " ".join(text for _, text in methods.write_methods(config.description))
    assert "the last 37 of 50 DDIM steps" in told
    assert "classifier-free guidance 7.5" in told
    assert "seed 42" in told


def test_another_value_gives_another_text(config):
    steps = config.reconstruction.model_copy(update={"steps": 20})
    changed = config.model_copy(update={"reconstruction": steps}).description
    told = " ".join(text for _, text in methods.write_methods(changed))
    assert "the last 15 of 20 DDIM steps" in told


def tell(config, *names):
    run = config.reconstruction.model_copy(update={"run": names})
    changed = config.model_copy(update={"reconstruction": run}).description
    return dict(methods.write_methods(changed))


def test_a_function_without_words_here_tells_of_itself(config, monkeypatch):
    monkeypatch.delitem(methods.FUNCTIONS, "edges")
    told = f"Guidance by edges: {GuidanceSettings.model_fields['edges'].description}"
    assert told in tell(config, "edges")["Reconstruction"]


@pytest.mark.parametrize(
    ("variant", "told", "untold"),
    [
        ("unguided", (), ("Primary visual", "brain encoding", "colours", "edges")),
        ("guided", ("Primary visual feature guidance compares 6 decoded",), ("brain encoding",)),
        ("brain_encoding", ("Guidance by brain encoding compares the voxels",), ("Primary",)),
        ("clip_and_color", ("Primary visual feature", "8 × 8 cells"), ("brain encoding", "edge")),
        ("edges", ("edge strengths at 64 pixels",), ("colours",)),
        ("guided_best", ("guided best (of guided, the repeat whose", "Primary"), ("edges",)),
    ],
)
def test_only_functions_that_guide_are_told(config, variant, told, untold):
    text = tell(config, variant)["Reconstruction"]
    assert all(words in text for words in told)
    assert not [words for words in untold if words in text]


def test_the_encoders_part_in_guidance_is_told(config):
    assert "takes no part in decoding or guidance" in tell(config, "guided")["Encoding models"]
    guides = tell(config, "guided", "brain_encoding")["Encoding models"]
    assert "It guides brain encoding, whose brain correlation it therefore cannot judge" in guides


def test_which_voxels_judge_is_told_where_only_some_guide(config):
    halved = EncoderSettings(share=0.5)
    guidance = config.reconstruction.guidance.model_copy(update={"encoder": halved})
    changed = config.reconstruction.model_copy(update={"guidance": guidance})
    told = tell(config.model_copy(update={"reconstruction": changed}), "brain_encoding")
    words = "through 50 % of the voxels in its regions, drawn at random; the others judge"
    assert words in told["Encoding models"]
