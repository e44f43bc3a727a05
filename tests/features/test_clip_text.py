import pytest
import tiny_models
import torch

from neuraldiffuser.errors import DataError
from neuraldiffuser.features import clip_text

CAPTIONS = [
    ["a red sky", "the big sky", "red on a round grass"],
    ["blue"],
    ["a square on sand", "a big square on the sand and on grass and on sand"],
]


@pytest.fixture(scope="module")
def text(stable_diffusion):
    return clip_text.load_clip_text(stable_diffusion)


def embed_one(text, caption):
    """A caption alone, through transformers and the final layer norm by hand."""
    encoded = text.tokenizer(
        caption, padding="max_length", max_length=12, truncation=True, return_tensors="pt"
    )
    output = text.encoder(encoded.input_ids, output_hidden_states=True)
    named = dict(text.encoder.named_modules())
    norm = next(named[name] for name in named if name.endswith("final_layer_norm"))
    return norm(output.hidden_states[-1])[0]


def test_mean_equals_a_loop_over_captions(text):
    embedded = clip_text.embed_captions(text, CAPTIONS)
    assert embedded.shape == (3, *tiny_models.TEXT_SHAPE)
    for row, captions in zip(embedded, CAPTIONS, strict=True):
        total = sum(embed_one(text, caption) for caption in captions)
        torch.testing.assert_close(row, total / len(captions), atol=1e-5, rtol=1e-5)


def test_first_takes_the_first_caption_alone(text):
    embedded = clip_text.embed_captions(text, CAPTIONS, selection="first")
    for row, captions in zip(embedded, CAPTIONS, strict=True):
        torch.testing.assert_close(row, embed_one(text, captions[0]), atol=1e-5, rtol=1e-5)
    difference = (embedded - clip_text.embed_captions(text, CAPTIONS)).abs().amax(dim=(1, 2))
    assert difference[0] > 1e-2
    assert difference[1] < 1e-6
    assert difference[2] > 1e-2


def test_long_captions_are_cut_and_short_ones_padded(text):
    cut, longer = text.embed(["sky sky sky sky", "sky sky sky sky red red red"])
    torch.testing.assert_close(cut, longer)
    short, other = text.embed(["a", "a big"])
    assert not torch.allclose(short[-1], other[-1])


def test_batches_change_nothing(text, monkeypatch):
    whole = clip_text.embed_captions(text, CAPTIONS)
    monkeypatch.setattr(clip_text, "BATCH_SIZE", 2)
    torch.testing.assert_close(clip_text.embed_captions(text, CAPTIONS), whole, atol=1e-5, rtol=0)


def test_an_image_without_caption_is_refused(text):
    with pytest.raises(DataError, match="Image number 1 of 2 has no caption"):
        clip_text.embed_captions(text, [["a"], []])


def test_a_folder_without_text_encoder_is_refused(tmp_path):
    with pytest.raises(DataError, match="text_encoder/config.json is missing; fetch or train"):
        clip_text.load_clip_text(tmp_path)
