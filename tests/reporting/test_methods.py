from typing import Literal, get_args, get_origin

import pytest

from neuraldiffuser.config.decoder import DecoderSettings, Prediction
from neuraldiffuser.config.encoding import EncodingSettings
from neuraldiffuser.config.evaluation import Evaluation, RetrievalSettings
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
    (Reconstruction, "guidance_loss", methods.LOSSES),
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
