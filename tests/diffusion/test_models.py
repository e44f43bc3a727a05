"""The model folder is loaded frozen, offline, and as the pipeline of diffusers would use it."""

import pytest
import torch
from tiny_models import TEXT_SHAPE

from neuraldiffuser.diffusion.models import load_latent_diffusion, load_unet
from neuraldiffuser.errors import DataError


def test_the_unconditional_embedding_is_that_of_an_empty_caption(path_to_stable_diffusion, model):
    from transformers import CLIPTextModel, CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(path_to_stable_diffusion / "tokenizer")
    encoder = CLIPTextModel.from_pretrained(path_to_stable_diffusion / "text_encoder").eval()
    tokens = tokenizer(
        "", padding="max_length", max_length=TEXT_SHAPE[0], truncation=True, return_tensors="pt"
    )
    with torch.no_grad():
        expected = encoder(tokens.input_ids).last_hidden_state[0]
    assert model.unconditional.shape == TEXT_SHAPE
    assert torch.allclose(model.unconditional.float(), expected, atol=1e-6)


def test_nothing_is_trained(model):
    networks = (model.denoiser.unet, model.autoencoder)
    assert not any(p.requires_grad for network in networks for p in network.parameters())
    assert not any(network.training for network in networks)


def test_precision_is_that_of_the_networks_not_of_the_latents(path_to_stable_diffusion, batch):
    half = load_latent_diffusion(path_to_stable_diffusion, dtype=torch.bfloat16)
    whole = load_latent_diffusion(path_to_stable_diffusion)
    latents, _, condition = (part.float() for part in batch)
    with torch.no_grad():
        rough, exact = (m.denoise(latents, 300, condition).noise for m in (half, whole))
        assert rough.dtype == exact.dtype == half.decode(latents).dtype == torch.float32
    assert 0 < (rough - exact).abs().max() < 0.2


def test_images_stay_within_range(model, batch):
    with torch.no_grad():
        images = model.decode(100 * batch[0])
    assert images.shape == (2, 3, 32, 32)
    assert images.min() == 0
    assert images.max() == 1


def test_a_missing_denoiser_is_named(tmp_path):
    with pytest.raises(DataError) as error:
        load_unet(tmp_path / "unet")
    assert str(error.value) == (
        f"{tmp_path}/unet/config.json is missing; fetch or train the model, or name a folder in the"
        " diffusers layout."
    )


def test_pickled_weights_are_refused(path_to_stable_diffusion, tmp_path):
    weights = load_unet(path_to_stable_diffusion / "unet").state_dict()
    torch.save(weights, tmp_path / "diffusion_pytorch_model.bin")
    config = (path_to_stable_diffusion / "unet" / "config.json").read_text()
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(DataError, match="no readable UNet2DConditionModel"):
        load_unet(tmp_path)
