"""What is planted in a latent target shows in images of the miniature's models that it guides."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_engine import guided_by, make_settings

from neuraldiffuser.diffusion.embeddings import Embeddings
from neuraldiffuser.diffusion.guidance.color import ColorGuidance
from neuraldiffuser.diffusion.guidance.decoded_image import REMEMBERED_IMAGES, decode_each_once
from neuraldiffuser.diffusion.guidance.edges import EdgesGuidance
from neuraldiffuser.diffusion.loading import load_engine, load_functions, name_sources
from neuraldiffuser.diffusion.reconstruct import decode_in_parts, reconstruct
from neuraldiffuser.features.vae_latent import encode_latents, load_encoder

STABLE_DIFFUSION = Path(__file__).parents[3] / "resources/mini_models/stable-diffusion"
SIZE = 64
RED, BLUE = (0.84, 0.13, 0.13), (0.14, 0.34, 0.86)
# Tried: 0, 3, 10, 30 and 100 for colours, 0, 10, 30, 100 and 300 for edges; more showed more.
SCALES = {"color": 100.0, "edges": 100.0}


@pytest.fixture(scope="module")
def engine():
    return load_engine(STABLE_DIFFUSION, make_settings(steps=20), seed=1, device="cpu")


@pytest.fixture(scope="module")
def halves():
    """Red on the left and blue on the right, and the other way round, float32 (2, 3, h, w)."""
    left = torch.tensor(RED)[:, None, None].repeat(1, SIZE, SIZE // 2)
    right = torch.tensor(BLUE)[:, None, None].repeat(1, SIZE, SIZE // 2)
    return torch.stack([torch.cat([left, right], dim=2), torch.cat([right, left], dim=2)])


@pytest.fixture(scope="module")
def embeddings(engine, halves):
    """Of two images that start from plain grey and an empty caption, with planted latents."""
    encoder = load_encoder(STABLE_DIFFUSION / "vae")

    def encode(images):
        return encode_latents(encoder, 2 * images - 1, posterior="mode", draw=None).numpy()

    return Embeddings(
        ids=np.array([0, 1]),
        latents=encode(torch.full_like(halves, 0.5)),
        texts=np.stack([engine.model.unconditional.numpy()] * 2),
        features={"vae_latent": encode(halves)},
    )


@pytest.fixture(scope="module")
def functions(engine):
    decode = partial(decode_in_parts, engine.model)
    return {"color": ColorGuidance(decode, grid=8), "edges": EdgesGuidance(decode, size=64, blur=1)}


@pytest.fixture(scope="module")
def show(engine, embeddings, functions):
    """Two images of each by the function of a name, or unguided, float32 (2, 2, 3, h, w)."""

    def run(name=None):
        guided = name and guided_by(functions[name], scale=SCALES[name], strength=0.5)
        images = reconstruct(embeddings, engine, repeats=2, guided=guided)
        return torch.from_numpy(images).movedim(-1, 2).float() / 255

    return run


@pytest.fixture(scope="module")
def unguided(show):
    return show()


def redness_of_the_left(images):
    """How much redder than blue the left half is, less the same of the right half."""
    redder = (images[:, :, 0] - images[:, :, 2]).mean(dim=-2)
    left, right = redder.chunk(2, dim=-1)
    return left.mean(dim=-1) - right.mean(dim=-1)


def test_colors_come_to_lie_where_they_were_planted(show, unguided):
    assert (redness_of_the_left(unguided).abs() < 0.3).all()
    redness = redness_of_the_left(show("color"))
    assert (redness[0] > 0.4).all()
    assert (redness[1] < -0.4).all()


def test_edges_come_to_lie_where_they_were_planted(functions, embeddings, show, unguided):
    function = functions["edges"]
    targets = function.prepare({"vae_latent": torch.from_numpy(embeddings.features["vae_latent"])})

    def losses(images):
        return torch.stack([function(images[:, repeat], targets) for repeat in range(2)])

    assert (losses(unguided) > 0.8).all()
    assert (losses(show("edges")) < losses(unguided) - 0.2).all()


def test_latents_are_decoded_once_for_all_steps(functions, embeddings, halves):
    latents = torch.from_numpy(embeddings.features["vae_latent"])
    prepared = functions["color"].prepare({"vae_latent": latents})["vae_latent"]
    assert prepared.shape == (2, 3, 8, 8) and not prepared.requires_grad
    error = (prepared - functions["color"].describe(halves)).abs().mean()
    assert error < 0.1, "what an image loses in the miniature's autoencoder"


def test_repeats_of_an_image_are_decoded_once():
    """Reference: the latents decoded one by one, whatever came before."""
    decoded = []

    def decode(latents):
        decoded.append(len(latents))
        return latents.exp()

    once = decode_each_once(decode)
    latents = torch.randn(3, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    for rows in ([0, 0, 0, 1], [1, 1, 2, 0]):
        assert torch.equal(once(latents[rows]), latents[rows].exp())
    assert decoded == [1, 1, 1]
    assert torch.equal(once(latents.double()), latents.double().exp())
    assert torch.equal(once(latents.reshape(3, 2, 4, 2)), latents.reshape(3, 2, 4, 2).exp())


def test_a_job_remembers_few_images():
    decoded = []
    once = decode_each_once(lambda latents: decoded.append(1) or latents)
    latents = torch.arange(REMEMBERED_IMAGES + 1.0).reshape(-1, 1, 1, 1)
    for _ in range(2):
        once(latents)
    assert len(decoded) == 2 * len(latents)


def test_functions_of_a_job_share_what_is_decoded(engine, embeddings, monkeypatch):
    decoded, decode = [], type(engine.model).decode
    monkeypatch.setattr(
        type(engine.model), "decode", lambda self, z: decoded.append(len(z)) or decode(self, z)
    )
    source = name_sources(engine, paths_to_models={}, paths_to_encoder=(), clip_image=None)
    latents = torch.from_numpy(embeddings.features["vae_latent"])[[0, 0, 1, 1]]
    for function in load_functions(source, ["color", "edges"]).values():
        function.prepare({"vae_latent": latents})
    assert decoded == [1, 1]
