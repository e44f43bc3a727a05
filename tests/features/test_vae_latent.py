import numpy as np
import pytest
import tiny_models
import torch
from PIL import Image

from neuraldiffuser.errors import DataError
from neuraldiffuser.features import vae_latent

IDS = np.array([7, 3, 900, 12, 5])


@pytest.fixture(scope="module")
def autoencoder(stable_diffusion):
    return vae_latent.load_encoder(stable_diffusion / "vae")


def prepare(pictures, **sizes):
    stimuli = vae_latent.resize_stimuli(pictures, **sizes)
    return vae_latent.normalise_stimuli(stimuli, **sizes)


def encode(autoencoder, prepared, *, posterior, ids=IDS, seed=0):
    return vae_latent.encode_latents(
        autoencoder,
        prepared,
        posterior=posterior,
        draw=lambda: vae_latent.draw_noise(ids, shape=tiny_models.LATENT_SHAPE, seed=seed),
    )


def test_images_are_pils_lanczos_in_minus_one_to_one(pictures):
    prepared = prepare(pictures, image_size=32, source_size=None)
    small = Image.fromarray(pictures[1]).resize((32, 32), Image.Resampling.LANCZOS)
    expected = np.asarray(small, dtype=np.float32) / 127.5 - 1
    np.testing.assert_allclose(prepared[1].permute(1, 2, 0), expected, atol=1e-6)


def test_source_size_blurs(pictures):
    straight = prepare(pictures, image_size=32, source_size=None)
    blurred = prepare(pictures, image_size=32, source_size=8)
    assert blurred.shape == straight.shape
    assert (blurred - straight).abs().max() > 0.02
    roughness = [prepared.diff(dim=-1).abs().mean() for prepared in (blurred, straight)]
    assert roughness[0] < roughness[1]


def test_mode_and_sample_follow_the_distribution_of_each_image(autoencoder, pictures):
    prepared = prepare(pictures, image_size=32, source_size=None)
    mode = encode(autoencoder, prepared, posterior="mode")
    sample = encode(autoencoder, prepared, posterior="sample")
    noise = vae_latent.draw_noise(IDS, shape=tiny_models.LATENT_SHAPE, seed=0)
    assert mode.shape == (5, *vae_latent.latent_shape(autoencoder, 32))
    for number in range(5):
        moments = autoencoder.quant_conv(autoencoder.encoder(prepared[number : number + 1]))
        mean, logarithm = moments[0].chunk(2)
        torch.testing.assert_close(mode[number], 0.5 * mean, atol=1e-4, rtol=0)
        drawn = mean + torch.exp(0.5 * logarithm) * noise[number]
        torch.testing.assert_close(sample[number], 0.5 * drawn, atol=1e-4, rtol=0)
    assert (mode - sample).abs().max() > 0.1


def test_scaling_factor_is_the_autoencoders_own(autoencoder, pictures, monkeypatch):
    prepared = prepare(pictures, image_size=32, source_size=None)
    before = encode(autoencoder, prepared, posterior="mode")
    monkeypatch.setattr(autoencoder, "_internal_dict", {**autoencoder.config})
    autoencoder.register_to_config(scaling_factor=1.5)
    after = encode(autoencoder, prepared, posterior="mode")
    torch.testing.assert_close(after, 3 * before)


def test_noise_belongs_to_seed_and_id_alone():
    shape = (4, 8, 8)
    noise = vae_latent.draw_noise(IDS, shape=shape, seed=1)
    shuffled = vae_latent.draw_noise(IDS[::-1].copy(), shape=shape, seed=1)
    assert torch.equal(noise.flip(0), shuffled)
    assert not torch.equal(noise, vae_latent.draw_noise(IDS, shape=shape, seed=2))
    assert abs(float(noise.mean())) < 0.1 and abs(float(noise.std()) - 1) < 0.1


def test_a_missing_autoencoder_is_refused(tmp_path):
    with pytest.raises(DataError, match="vae/config.json is missing; fetch or train the model"):
        vae_latent.load_autoencoder(tmp_path / "vae")
