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


def embed(text, captions, **selection):
    return clip_text.embed_captions(text, clip_text.tokenise_captions(text, captions, **selection))


def test_mean_equals_a_loop_over_captions(text):
    embedded = embed(text, CAPTIONS)
    assert embedded.shape == (3, *tiny_models.TEXT_SHAPE)
    for row, captions in zip(embedded, CAPTIONS, strict=True):
        total = sum(embed_one(text, caption) for caption in captions)
        torch.testing.assert_close(row, total / len(captions), atol=1e-5, rtol=1e-5)


def test_first_takes_the_first_caption_alone(text):
    embedded = embed(text, CAPTIONS, selection="first")
    for row, captions in zip(embedded, CAPTIONS, strict=True):
        torch.testing.assert_close(row, embed_one(text, captions[0]), atol=1e-5, rtol=1e-5)
    difference = (embedded - embed(text, CAPTIONS)).abs().amax(dim=(1, 2))
    assert difference[0] > 1e-2
    assert difference[1] < 1e-6
    assert difference[2] > 1e-2


def test_long_captions_are_cut_and_short_ones_padded(text):
    cut, longer = text.embed(["sky sky sky sky", "sky sky sky sky red red red"])
    torch.testing.assert_close(cut, longer)
    short, other = text.embed(["a", "a big"])
    assert not torch.allclose(short[-1], other[-1])


def test_a_caption_of_several_images_is_embedded_once_and_counts_everywhere(text):
    shared = [["blue", "a red sky"], ["blue"], ["a red sky", "blue", "blue"]]
    wordings = clip_text.tokenise_captions(text, shared)
    assert wordings.tokens.shape == (2, tiny_models.TEXT_SHAPE[0])
    embedded = clip_text.embed_captions(text, wordings)
    blue, sky = embed_one(text, "blue"), embed_one(text, "a red sky")
    expected = torch.stack([(blue + sky) / 2, blue, (sky + 2 * blue) / 3])
    torch.testing.assert_close(embedded, expected, atol=1e-5, rtol=1e-5)


def test_batches_change_nothing(text):
    whole = embed(text, CAPTIONS)
    parts = torch.cat([embed(text, CAPTIONS[:2]), embed(text, CAPTIONS[2:])])
    torch.testing.assert_close(parts, whole, atol=1e-5, rtol=0)


def test_an_image_without_caption_is_refused(text):
    with pytest.raises(DataError, match="Image number 1 of 2 has no caption"):
        clip_text.tokenise_captions(text, [["a"], []])


def test_a_folder_without_text_encoder_is_refused(tmp_path):
    with pytest.raises(DataError, match="text_encoder/config.json is missing; fetch or train"):
        clip_text.load_clip_text(tmp_path)
