"""The denoiser equals the UNet, and its attention what diffusers materialises."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import torch
from diffusers.models.attention_processor import Attention, AttnProcessor

from neuraldiffuser.diffusion.attention import Denoiser, received_attention
from neuraldiffuser.diffusion.models import load_latent_diffusion
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


def test_a_compiled_network_reports_the_same_attention(path_to_stable_diffusion, batch):
    """Compiled after the first pass, as a job does; the second sample's map is not asked for."""
    z, _, condition = batch
    denoiser = load_latent_diffusion(path_to_stable_diffusion, dtype=torch.float64).denoiser
    with torch.no_grad():
        plain = [denoiser(z, 321, condition, attended=count) for count in (1, 2)]
        denoiser.unet.compile(backend="eager", dynamic=False)
        compiled = [denoiser(z, 321, condition, attended=count) for count in (1, 2)]
    assert [result.attention.shape for result in compiled] == [(1, 4, 4), (2, 4, 4)]
    for one, other in zip(plain, compiled, strict=True):
        assert torch.allclose(one.noise, other.noise, atol=1e-12)
        assert torch.allclose(one.attention, other.attention, atol=1e-6)


def test_threads_do_not_mix_their_attention(model, batch, monkeypatch):
    """Both threads have recorded before either takes what it asked for."""
    z, _, condition = batch
    alone = [model.denoiser(z[k:], 321, condition[k:], attended=2 - k).attention for k in range(2)]
    both, take = Barrier(2, timeout=60), model.denoiser.recorder.take
    monkeypatch.setattr(model.denoiser.recorder, "take", lambda: (both.wait(), take())[1])
    with ThreadPoolExecutor(2) as pool:
        tasks = [
            pool.submit(model.denoiser, z[k:], 321, condition[k:], attended=2 - k) for k in range(2)
        ]
        together = [task.result().attention for task in tasks]
    assert alone[0].shape != alone[1].shape
    assert all(torch.equal(one, other) for one, other in zip(alone, together, strict=True))


def test_products_beyond_float16_are_attended_to():
    """Queries times keys reach 300,000 before they are scaled; reference: the same in float64."""
    attention = Attention(query_dim=4, heads=1, dim_head=4).half()
    weight = 100 * torch.eye(4, dtype=torch.float16)
    for part in (attention.to_q, attention.to_k):
        part.weight = torch.nn.Parameter(weight, requires_grad=False)
    states = torch.tensor([[[5.5, 0, 0, 0], [5.4995, 0.05, 0, 0], [5.5, 0.02, 0, 0]]]).half()
    found = received_attention(attention, states)
    products = (100 * states.double()) @ (100 * states.double()).transpose(1, 2)
    expected = (products * attention.scale).softmax(dim=2).sum(dim=1)
    assert products.max() > torch.finfo(torch.float16).max
    assert torch.allclose(found.double(), expected, atol=1e-4)


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
