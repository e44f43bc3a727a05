"""The denoiser equals the UNet, and its attention what diffusers materialises."""

import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor

from neuraldiffuser.diffusion.attention import Denoiser
from neuraldiffuser.errors import DataError


def test_noise_is_the_unets(model, batch):
    z, _, condition = batch
    expected = model.denoiser.unet(z, 321, condition).sample
    assert torch.equal(model.denoiser(z, 321, condition).noise, expected)
    assert model.denoiser(z, 321, condition).attention is None


def test_attention_is_that_of_a_processor_that_writes_it_down(model, batch, monkeypatch):
    """Reference: diffusers' plain AttnProcessor, its get_attention_scores recorded."""
    z, _, condition = batch
    attention, scores = model.denoiser.attention, []
    received = model.denoiser(z, 321, condition, attended=1).attention
    original = attention.get_attention_scores
    monkeypatch.setattr(
        attention, "get_attention_scores", lambda *a: scores.append(original(*a)) or scores[-1]
    )
    monkeypatch.setattr(attention, "processor", AttnProcessor())
    model.denoiser(z, 321, condition)
    by_head = scores[0].unflatten(0, (2, attention.heads))[0]  # first sample: (heads, from, to)
    expected = by_head.mean(dim=0).sum(dim=0).reshape(1, 4, 4)
    assert received.shape == (1, 4, 4)
    assert torch.allclose(received.double(), expected, atol=1e-5)


def test_received_attention_adds_up_to_the_number_of_places(model, batch):
    z, _, condition = batch
    received = model.denoiser(z, 321, condition, attended=2).attention
    assert torch.allclose(received.sum(dim=(1, 2)), torch.full((2,), 16.0), atol=1e-4)


def test_map_size_rounds_up(model):
    assert model.denoiser.map_size(torch.zeros(1, 4, 9, 7)) == (5, 4)


def test_a_unet_without_middle_attention_is_refused():
    class Plain(torch.nn.Module):
        config = type("Config", (), {"down_block_types": ("DownBlock2D",)})
        mid_block = torch.nn.Identity()

    with pytest.raises(DataError) as error:
        Denoiser(Plain())
    assert str(error.value) == (
        "The UNet has no self-attention in its middle block, which self-attention guidance reads;"
        " use a model such as stable-diffusion-v1-4."
    )
